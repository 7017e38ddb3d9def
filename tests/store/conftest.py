"""Every test of the store runs on SQLite and on PostgreSQL."""

from __future__ import annotations

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


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nightbell.db'}"
    return await postgres.create_database(uuid4().hex)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.migrate()
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
