"""Asterisk's call detail records in a table: of cdr_pgsql, cdr_adaptive_odbc, or FreePBX's `asteriskcdrdb.cdr`.

It is read and never written: each connection says so to its database, and bounds the time of a query there, too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncpg import PostgresError
from sqlalchemy import Column, MetaData, Table, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bridge.model.errors import SourceError

ASK_SECONDS = 30
MAX_ROWS = 100_000

NEEDED = (
    "uniqueid",
    "channel",
    "dcontext",
    "clid",
    "src",
    "dst",
    "lastapp",
    "lastdata",
    "duration",
    "disposition",
)
# Without a Linkedid less is known of a call; FreePBX has the number that was called in `did`.
WELCOME = ("linkedid", "did")
BEGIN = ("start", "calldate")

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
    "sqlite": "sqlite+aiosqlite",
}
# As MySQL and MariaDB number their errors, and PostgreSQL and the SQL standard (SQLSTATE).
_REFUSED = (1044, 1045, 1142, 1143, 1698, "28000", "28P01", "42501")
_NO_DATABASE = (1049, "3D000")

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordsTable:
    """A table, and the address of its database: user, password and all."""

    address: str = field(repr=False)
    name: str
    tls: bool = False
    certificate: Path | None = None

    async def rows(self, earliest: datetime) -> list[Row]:
        """The records of calls that began since then, however the table writes moments. Raises `SourceError`."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = await self._ask(earliest)
        except NoSuchTableError:
            raise SourceError(
                f"there is no table {self.name} in the call records' database: check table"
            ) from None
        except TimeoutError:
            raise SourceError(f"the call records' database does not answer within {ASK_SECONDS} s") from None
        except (SQLAlchemyError, PostgresError, OSError) as error:
            raise SourceError(f"the call records can't be asked for: {_why(error)}") from None
        if len(found) > MAX_ROWS:
            raise SourceError(f"the table {self.name} has more than {MAX_ROWS} records of one day")
        return found

    async def _ask(self, earliest: datetime) -> list[Row]:
        url = _url(self.address)
        arguments = _arguments(url, _context(self.certificate) if self.tls else None)
        engine = create_async_engine(url, poolclass=NullPool, connect_args=arguments)
        try:
            async with engine.connect() as connection:
                await _only_read(connection)
                if self.tls:
                    await _require_encryption(connection)
                table = await connection.run_sync(
                    lambda sync: Table(self.name, MetaData(), autoload_with=sync, resolve_fks=False)
                )
                begin = self._begin(table)
                wanted = [table.c[name] for name in (*NEEDED, *WELCOME) if name in table.c]
                query = select(*wanted, begin.label("start")).where(begin >= _comparable(begin, earliest))
                rows = (await connection.execute(query.limit(MAX_ROWS + 1))).mappings().all()
        finally:
            await engine.dispose()
        empty = dict.fromkeys((*NEEDED, *WELCOME), "")
        return [
            empty | {name: str(value) for name, value in row.items() if value is not None} for row in rows
        ]

    def _begin(self, table: Table) -> Column[Any]:
        missing = [name for name in NEEDED if name not in table.c]
        begin = next((table.c[name] for name in BEGIN if name in table.c), None)
        if missing or begin is None:
            lacks = ", ".join(missing + ([] if begin is not None else [" or ".join(BEGIN)]))
            raise SourceError(f"the table {self.name} is no table of call records: it has no column {lacks}")
        return begin


def _url(address: str) -> URL:
    try:
        url = make_url(address)
        return url.set(drivername=_DRIVERS[url.drivername])
    except (ArgumentError, KeyError):
        known = ", ".join(f"{name}://..." for name in _DRIVERS)
        raise SourceError(f"the address of the call records' database should be {known}") from None


def _context(certificate: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificate)
    except OSError:
        raise SourceError(f"no certificate can be read from {certificate}") from None


def _arguments(url: URL, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """What the driver is told on connecting."""
    secured = {"ssl": tls} if tls is not None else {}
    if url.get_backend_name() == "postgresql":
        session = {"default_transaction_read_only": "on", "statement_timeout": f"{ASK_SECONDS}s"}
        return {"timeout": ASK_SECONDS, "server_settings": session, **secured}
    if url.get_backend_name() in ("mysql", "mariadb"):
        return {
            "connect_timeout": ASK_SECONDS,
            "init_command": "SET SESSION TRANSACTION READ ONLY",
            **secured,
        }
    return {}


async def _only_read(connection: AsyncConnection) -> None:
    """What can only be said once it is connected."""
    dialect = connection.dialect
    if dialect.name == "sqlite":
        await connection.execute(text("PRAGMA query_only = ON"))
    elif dialect.name in ("mysql", "mariadb"):
        mariadb = getattr(dialect, "is_mariadb", False)
        bound = f"max_statement_time = {ASK_SECONDS}" if mariadb else f"max_execution_time = {ASK_SECONDS}000"
        await connection.execute(text(f"SET SESSION {bound}"))


async def _require_encryption(connection: AsyncConnection) -> None:
    """Whoever answers without TLS is not asked: aiomysql itself would go on in the clear."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return
    driver = (await connection.get_raw_connection()).driver_connection
    writer: asyncio.StreamWriter = driver._writer  # type: ignore[union-attr]  # noqa: SLF001 - it has no other way
    if writer.get_extra_info("ssl_object") is None:
        raise SourceError("the call records' database does not encrypt: set its TLS up, or leave tls out")


def _comparable(begin: Column[Any], earliest: datetime) -> datetime | str:
    """The moment as this column's values are."""
    try:
        kind = begin.type.python_type
    except NotImplementedError:
        kind = str
    if kind is datetime:
        return (
            earliest
            if getattr(begin.type, "timezone", False)
            else earliest.astimezone(UTC).replace(tzinfo=None)
        )
    return earliest.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _why(error: Exception) -> str:
    """What is wrong, and what to do; nothing that the database itself said, which may repeat a value."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    codes = (getattr(cause, "sqlstate", None), *getattr(cause, "args", ())[:1])
    if any(code in _REFUSED for code in codes if code is not None):
        return "the database refuses the user: check user, password, and that it may SELECT from the table"
    if any(code in _NO_DATABASE for code in codes if code is not None):
        return "there is no database of this name: check the end of its address"
    return f"{type(cause).__name__}; check its address, and that the bridge may reach it"
