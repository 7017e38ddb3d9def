"""What the database knows beside the files: shifts taken and given in rooms, and calendars that were fetched."""

from __future__ import annotations

import asyncio
from datetime import datetime

import typer
from sqlalchemy.exc import SQLAlchemyError

from bridge.config import Config
from bridge.engine.calendars import complete
from bridge.model.errors import NightbellError
from bridge.model.ids import RoleId
from bridge.policy.schedule import Change
from bridge.store import shifts
from bridge.store.database import Database
from bridge.store.shifts import Held


def known(config: Config, after: datetime) -> tuple[Config, tuple[Change, ...]]:
    """The configuration with its calendars, and the shift changes that hold after an instant.

    Where the database can't be opened it says so, and gives what the files know.
    """
    try:
        database = Database(config.database_url)
        if database.is_missing:
            raise FileNotFoundError(database.url)
        return asyncio.run(_read(config, database, after))
    except (NightbellError, SQLAlchemyError, OSError, ValueError) as error:
        typer.echo(f"from the files only; the database was not read ({type(error).__name__})", err=True)
        return config, ()


def on_record(config: Config, at: datetime) -> dict[RoleId, Held]:
    """Who held each role at an instant that the bridge has lived through, whatever the files say by now."""
    try:
        database = Database(config.database_url)
        if database.is_missing:
            return {}
        return asyncio.run(_recorded(config, database, at))
    except (NightbellError, SQLAlchemyError, OSError, ValueError):
        return {}  # `known` has said so


async def _recorded(config: Config, database: Database, at: datetime) -> dict[RoleId, Held]:
    try:
        async with database.read() as connection:
            if not await shifts.has_passed(connection, at):
                return {}
            found = [await shifts.held_at(connection, role, at) for role in config.roster.roles]
            return {record.role: record for record in found if record is not None}
    finally:
        await database.close()


async def _read(config: Config, database: Database, after: datetime) -> tuple[Config, tuple[Change, ...]]:
    try:
        async with database.read() as connection:
            changes = await shifts.changes(connection, after)
        return await complete(config, database), changes
    finally:
        await database.close()
