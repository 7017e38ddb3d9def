"""Every test of the store runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.vault import Vault
from testbed.postgres import Postgres

NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
OPERATOR_KEY = bytes(range(32))


@pytest.fixture(scope="session")
async def template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "nightbell.db"
    await _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
async def template_database(postgres: Postgres) -> str:
    await _migrate(await postgres.create_database("template"))
    return "template"


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres: Postgres,
    template_file: Path,
    template_database: str,
) -> str:
    """A database with its tables and no rows, copied from one that was migrated once."""
    if request.param == "sqlite":
        shutil.copy(template_file, tmp_path)
        return f"sqlite:///{tmp_path / template_file.name}"
    return await postgres.create_database(uuid4().hex, f'TEMPLATE "{template_database}"')


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def keys(database: Database) -> KeyRing:
    keys = KeyRing(Vault(OPERATOR_KEY))
    await keys.claim(database, NOW)
    return keys


@pytest.fixture
def inbox(database: Database, keys: KeyRing) -> IntakeStore:
    return IntakeStore(database, keys, lambda: NOW, lambda: None)
