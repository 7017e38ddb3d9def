"""How far each source was asked what has happened, and the line in the operations room that says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import ChannelId
from bridge.store.database import upsert
from bridge.store.tables import reconciliation


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What is known to be whole of a channel: everything from `began` through `through`.

    `missing` counts what had to be fetched on `day`, a local date; `line` is the transaction of that day's message.
    """

    began: datetime
    through: datetime
    day: str = ""
    missing: int = 0
    line: str | None = None
    said_at: datetime | None = None


async def get(connection: AsyncConnection, channel: ChannelId) -> Reconciled | None:
    """How far a channel is reconciled; None before the first time."""
    query = select(reconciliation).where(reconciliation.c.channel == channel)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return Reconciled(row.began, row.through, row.day, row.missing, row.line, row.said_at)


async def put(connection: AsyncConnection, channel: ChannelId, state: Reconciled) -> None:
    """Remember it."""
    values = asdict(state)
    statement = upsert(connection, reconciliation).values(channel=channel, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["channel"], set_=values))
