"""mautrix's crypto store: Olm account, sessions and device lists, pickled under the operator's key.

On SQLite it is a file of its own beside the bridge's, since it has its own connection; on PostgreSQL its
`crypto_*` tables stand in the bridge's database.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from mautrix.crypto import PgCryptoStore
from mautrix.util.async_db import Database
from mautrix.util.async_db.aiosqlite import SQLiteDatabase
from mautrix.util.async_db.asyncpg import PostgresDatabase
from mautrix.util.async_db.connection import LoggingConnection
from yarl import URL

from bridge.model.errors import StoreUnavailableError

ACCOUNT = "nightbell"
# A power cut must not take back a ratchet step whose ciphertext was kept: clients drop a repeated message index.
SQLITE_PRAGMAS = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON"]


# What the store suffers, and what a statement or its data does wrong.
AWAY = sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError
AT_FAULT = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.SyntaxOrAccessError,
    ValueError,
)


@contextmanager
def _away() -> Iterator[None]:
    """A store that is away is no verdict on what was asked of it: whoever asked must ask again."""
    try:
        yield
    except AT_FAULT:
        raise
    except AWAY as error:
        message = (
            f"the crypto store does not answer ({type(error).__name__}); check its disk and that it runs"
        )
        raise StoreUnavailableError(message) from None


class _OnSqlite(SQLiteDatabase):
    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[LoggingConnection]:  # type: ignore[override] # it is mistyped there
        acquired: Any = super().acquire()
        with _away():
            async with acquired as connection:
                yield connection


class _OnPostgres(PostgresDatabase):
    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[LoggingConnection]:  # type: ignore[override] # it is mistyped there
        acquired: Any = super().acquire()
        with _away():
            async with acquired as connection:
                yield connection


def sqlite_crypto_path(database: Path) -> Path:
    """The crypto store's file, beside the bridge's own."""
    return database.with_name(f"{database.stem}-crypto{database.suffix}")


@asynccontextmanager
async def open_crypto_store(database_url: str, pickle_key: str) -> AsyncIterator[PgCryptoStore]:
    """Open the store, its schema up to date. Raises StoreUnavailableError."""
    silent = logging.getLogger("mau.silent.crypto")
    database: Database
    if database_url.startswith("sqlite"):
        file = sqlite_crypto_path(Path(database_url.removeprefix("sqlite:///")))
        file.parent.mkdir(parents=True, exist_ok=True)
        with _away(), closing(sqlite3.connect(file)) as first:
            # mautrix would leave a thread behind here that keeps the process from ending.
            first.execute("PRAGMA schema_version")
        database = _OnSqlite(
            URL(f"sqlite:///{file}"),
            PgCryptoStore.upgrade_table,
            {"init_commands": list(SQLITE_PRAGMAS)},
            log=silent,
        )
    else:
        pool = {"min_size": 1, "max_size": 5, "timeout": 10, "command_timeout": 60}
        pool["meow_exit_on_ice"] = False  # mautrix would end the process at some errors of the driver
        database = _OnPostgres(URL(database_url), PgCryptoStore.upgrade_table, pool, log=silent)
    with _away():
        await database.start()
    try:
        store = PgCryptoStore(ACCOUNT, pickle_key, database)
        await store.get_device_id()
        yield store
    finally:
        await database.stop()
