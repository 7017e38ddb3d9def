"""The crypto store says when it is away, so that nobody takes it for a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from mautrix.types import UserID

from bridge.matrix.crypto_store import open_crypto_store, sqlite_crypto_path
from bridge.model.errors import StoreUnavailableError
from testbed.postgres import Postgres

ANN = UserID("@ann:test")


async def test_a_store_on_postgresql_is_missed_only_while_it_is_away() -> None:
    async with (
        Postgres() as server,
        open_crypto_store(await server.create_database("crypto"), "key") as store,
    ):
        await store.put_devices(ANN, {})
        await server.kill()
        with pytest.raises(StoreUnavailableError):
            await store.get_devices(ANN)
        with pytest.raises(StoreUnavailableError):
            await store.put_devices(ANN, {})
        await server.start()
        assert await store.get_devices(ANN) == {}


async def test_a_file_that_is_no_store_is_said_to_be_away(tmp_path: Path) -> None:
    database = tmp_path / "nightbell.db"
    sqlite_crypto_path(database).write_bytes(b"no database at all " * 1000)
    with pytest.raises(StoreUnavailableError):
        async with open_crypto_store(f"sqlite:///{database}", "key"):
            pass
