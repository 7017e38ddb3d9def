"""mautrix's crypto store: Olm account, sessions and device lists, pickled under the operator's key.

On SQLite it is a file of its own beside the bridge's, since it has its own connection; on PostgreSQL its
`crypto_*` tables stand in the bridge's database.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from mautrix.crypto import PgCryptoStore
from mautrix.util.async_db import Database

ACCOUNT = "nightbell"
# A power cut must not take back a ratchet step whose ciphertext was kept: clients drop a repeated message index.
SQLITE_PRAGMAS = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON"]


def is_store_away(error: Exception) -> bool:
    """Whether it was the store that failed, so that the same may go well later; else the data is to blame."""
    at_fault = sqlite3.OperationalError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
    return isinstance(error, at_fault) and not isinstance(error, asyncpg.DataError | ValueError)


def sqlite_crypto_path(database: Path) -> Path:
    """The crypto store's file, beside the bridge's own."""
    return database.with_name(f"{database.stem}-crypto{database.suffix}")


@asynccontextmanager
async def open_crypto_store(database_url: str, pickle_key: str) -> AsyncIterator[PgCryptoStore]:
    """Open the store, its schema up to date."""
    silent = logging.getLogger("mau.silent.crypto")
    arguments: dict[str, object]
    if database_url.startswith("sqlite"):
        file = sqlite_crypto_path(Path(database_url.removeprefix("sqlite:///")))
        file.parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{file}"
        arguments = {"init_commands": list(SQLITE_PRAGMAS)}
    else:
        url = database_url
        arguments = {"min_size": 1, "max_size": 5, "timeout": 10, "command_timeout": 60}
    database = Database.create(
        url,
        upgrade_table=PgCryptoStore.upgrade_table,
        db_args=arguments,
        log=silent,
    )
    await database.start()
    try:
        store = PgCryptoStore(ACCOUNT, pickle_key, database)
        await store.get_device_id()
        yield store
    finally:
        await database.stop()
