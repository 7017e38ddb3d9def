"""Bringing the schema up to date, with alembic. Imported only when there is something to do."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from bridge.model.errors import NightbellError

MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaTooNewError(NightbellError):
    """The database was written by a newer Nightbell; start that version, or restore the backup made before it."""


def upgrade(connection: Connection, current: str | None) -> None:
    """Run the migrations after `current`. Raises SchemaTooNewError if this version does not know `current`."""
    config = alembic_config(connection)
    if current is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(current)
        except CommandError:
            message = f"the database has schema {current}, which this version does not know; start a newer Nightbell"
            raise SchemaTooNewError(message) from None
    command.upgrade(config, "head")


def alembic_config(connection: Connection) -> Config:
    """Alembic on a connection of ours."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
