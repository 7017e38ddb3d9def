"""The one database: SQLite by default, PostgreSQL for several nodes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Connection, Table, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bridge.model.errors import NightbellError, StoreUnavailableError
from bridge.store.migrations import HEAD

BUSY_TIMEOUT_SECONDS = 10
READ_ONLY = "nightbell_read_only"

# What a statement does wrong. Any other error is the database's: away, starting, full, read-only, broken.
FAULTS_OF_OURS = (IntegrityError, ProgrammingError, DataError)
# While it connects, SQLAlchemy lets the drivers' own errors through.
FAULTS = (
    DBAPIError,
    PoolTimeoutError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)


class Database:
    """Transactions on the database.

    SQLite has one writer: `write` takes its turn here, where waiting is cheap and fair, instead of in the
    database, where it ends in *database is locked*. Its commits reach the disk before they return
    (`synchronous=FULL`), so that what was acknowledged survives a power cut too.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _create_engine(url)
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[Any] | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it is a file that is not there yet. Opening it would make it."""
        return self.is_sqlite and not Path(self.engine.url.database or "").exists()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed on leaving. Raises StoreUnavailableError if the database can't take it."""
        with _unavailable("did not take a write"):
            if not self.is_sqlite:
                async with self.engine.begin() as connection:
                    yield connection
                return
            if self._writing is asyncio.current_task():
                raise RuntimeError("a transaction within a transaction would wait for itself")
            async with self._turn, self.engine.begin() as connection:
                self._writing = asyncio.current_task()
                try:
                    yield connection
                finally:
                    self._writing = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading. Raises StoreUnavailableError if the database does not answer."""
        with _unavailable("does not answer"):
            async with self.engine.connect() as connection:
                await connection.execution_options(**{READ_ONLY: True})
                yield connection

    async def migrate(self) -> None:
        """Bring the schema up to date. Raises SchemaTooNewError for a database of a later version."""
        with _unavailable("can't be opened"):
            if self.is_sqlite:
                path = self.engine.url.database
                if path and path != ":memory:":
                    Path(path).parent.mkdir(parents=True, exist_ok=True)
            async with self.engine.begin() as connection:
                current = await connection.run_sync(_revision)
                if current != HEAD:
                    from bridge.store import schema  # noqa: PLC0415 - 10 MiB that a start seldom needs

                    await connection.run_sync(schema.upgrade, current)

    async def forget_deleted(self) -> None:
        """Have the database's files let go of what was deleted, as far as it can be told to.

        SQLite overwrites deleted rows itself (`secure_delete`), but its write-ahead log keeps them until it is
        cut. PostgreSQL frees them by VACUUM; its archived log is the operator's.
        """
        with _unavailable("did not take a clean-up"):
            async with self.engine.connect() as connection:
                plain = await connection.execution_options(isolation_level="AUTOCOMMIT", **{READ_ONLY: True})
                if self.is_sqlite:
                    await plain.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                else:
                    await plain.exec_driver_sql(
                        "VACUUM root_key, lasting_key, data_key, day_key, intake, attachment, outbox, inbound"
                    )

    async def close(self) -> None:
        """Give back every connection."""
        await self.engine.dispose()


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An insert that can say what happens if the row is there already (`on_conflict_...`)."""
    # Both databases know ON CONFLICT, but SQLAlchemy offers it only on their own insert.
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


@contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except FAULTS_OF_OURS:
        raise
    except FAULTS as error:
        code = _code(error)
        if (
            code == "SQLITE_ERROR"
        ):  # such as a table that is not there: PostgreSQL's driver tells it apart by type
            raise
        message = f"the database {what} ({code or type(error).__name__}); check its disk and that it runs"
        raise StoreUnavailableError(message) from None


def _code(error: BaseException) -> str | None:
    """SQLite's name of an error (such as SQLITE_FULL), or PostgreSQL's SQLSTATE."""
    cause = getattr(error, "orig", None) or error
    code: str | None = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return code


def _create_engine(url: str) -> AsyncEngine:
    # Parameters are hidden from errors and logs: a bound value may be a sealed message.
    if url.startswith("sqlite"):
        engine = create_async_engine(
            url.replace("sqlite://", "sqlite+aiosqlite://", 1),
            hide_parameters=True,
            pool_size=8,
            max_overflow=0,  # a connection is a thread; beyond a few they only wait for each other
            pool_reset_on_return=None,  # `write` ends each transaction itself, and `read` begins none
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        )
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
        return engine
    scheme, rest = url.split("://", 1)
    if scheme not in ("postgresql", "postgres"):
        message = (
            f'database url scheme "{scheme}" is not supported; use sqlite:///path or postgresql://host/name'
        )
        raise NightbellError(message)
    return create_async_engine(
        f"postgresql+asyncpg://{rest}",
        hide_parameters=True,
        pool_size=10,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "command_timeout": 60},
    )


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself, or BEGIN IMMEDIATE below would come too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    # A cache of 256 KiB for each of the connections: the file's pages are in the system's cache anyway.
    settings = (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "cache_size=-256",
    )
    for pragma in settings:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # A transaction that will write says so at once: one that finds out later can't wait for its turn. A read
    # needs none: each of its statements sees one state of the database, and every BEGIN is a trip to a thread.
    if not connection.get_execution_options().get(READ_ONLY):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _revision(connection: Connection) -> str | None:
    """The last migration that a database has seen; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
