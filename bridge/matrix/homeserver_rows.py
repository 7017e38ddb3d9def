"""Looking into Synapse's own database (`bridge.model.doors.Witness`), where its operator lets the bridge read it.

What the homeserver's API no longer shows may still be in its tables: redacted ciphertext until
`redaction_retention_period` is over, or rows that a purge left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Select, column, select, table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from bridge.config.values import SecretRef
from bridge.model.errors import HomeserverDatabaseError
from bridge.model.ids import EventId
from bridge.store.database import FAULTS

TIMEOUT_SECONDS = 30
AT_ONCE = 5_000  # a statement takes 32,766 values at most

_json = table("event_json", column("event_id"), column("json"))
_media = table("local_media_repository", column("media_id"))
PLACES: tuple[tuple[str, Select[Any]], ...] = (
    ("events", select(column("event_id")).select_from(table("events"))),
    ("event_json", select(_json.c.event_id)),
    ("ciphertext", select(_json.c.event_id).where(_json.c.json.like('%"ciphertext"%'))),
    ("event_relations", select(column("event_id")).select_from(table("event_relations"))),
)
FILES: tuple[str, Select[Any]] = ("local_media_repository", select(_media.c.media_id))


class HomeserverRows:
    """A connection for each look: looks are rare, and the homeserver needs its own.

    Where the database is, is read at each look: what is wrong with it must keep no bridge from ringing.
    """

    def __init__(self, where: SecretRef) -> None:
        self._where = where

    async def left_of(self, events: Sequence[EventId], files: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The tables that still know each event or file (`mxc://...`); what no table knows is not in the answer."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        names = {mxc.rsplit("/", 1)[-1]: mxc for mxc in files}
        async with self._connected() as connection:
            for what, ids, wanted in (*((*place, events) for place in PLACES), (*FILES, list(names))):
                for start in range(0, len(wanted), AT_ONCE):
                    some = wanted[start : start + AT_ONCE]
                    for known in (await connection.execute(ids.where(_id(ids).in_(some)))).scalars():
                        found[names.get(known, known)].append(what)
        return {each: tuple(tables) for each, tables in found.items()}

    async def check(self) -> None:
        """Whether it can be read. Raises HomeserverDatabaseError, SecretUnreadableError."""
        async with self._connected() as connection:
            await connection.execute(select(_json.c.event_id).limit(1))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        engine = _reading_engine(self._where.read_text())
        try:
            async with engine.connect() as connection:
                yield connection
        except FAULTS as error:
            cause = getattr(error, "orig", None) or error
            message = (
                f"the homeserver's database can't be read ({type(cause).__name__}): look at homeserver.database "
                "in nightbell.yaml, and whether that user may SELECT from Synapse's tables"
            )
            raise HomeserverDatabaseError(message) from None


def _id(query: Select[Any]) -> Any:
    return query.selected_columns[0]


def _reading_engine(url: str) -> AsyncEngine:
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return create_async_engine(
            f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true",
            hide_parameters=True,
            poolclass=NullPool,
            connect_args={"timeout": TIMEOUT_SECONDS},
        )
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        message = "homeserver.database should be postgresql://user:password@host/name or sqlite:///path"
        raise HomeserverDatabaseError(message)
    return create_async_engine(
        f"postgresql+asyncpg://{rest}",
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={
            "timeout": TIMEOUT_SECONDS,
            "command_timeout": TIMEOUT_SECONDS,
            "server_settings": {"default_transaction_read_only": "on"},
        },
    )
