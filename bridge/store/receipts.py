"""Read receipts: up to which event somebody has read a room, kept until it is known which pages that covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import EventId, RoomId, UserId
from bridge.store.database import upsert
from bridge.store.tables import inbound, outbox, read_receipt

# What somebody else wrote stands in the room some time before we hear of it.
HEARD_AFTER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """Somebody has read a room up to an event; whatever we had sent there at `covers` is read."""

    room: RoomId
    user: UserId
    event: EventId
    covers: datetime


async def keep_receipts(
    connection: AsyncConnection, room: RoomId, receipts: Mapping[UserId, EventId], now: datetime
) -> None:
    """Keep how far people have read a room; a later receipt takes the place of an earlier one."""
    for user, event in receipts.items():
        values = {"event_id": event, "received_at": now}
        statement = upsert(connection, read_receipt).values(room_id=room, user_id=user, **values)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["room_id", "user_id"], set_=values)
        )


async def known_receipts(connection: AsyncConnection, limit: int) -> list[ReadReceipt]:
    """The receipts for events of which we know when they were sent."""
    sent = and_(outbox.c.event == read_receipt.c.event_id, outbox.c.room == read_receipt.c.room_id)
    heard = and_(inbound.c.event_id == read_receipt.c.event_id, inbound.c.room_id == read_receipt.c.room_id)
    query = (
        select(read_receipt, outbox.c.sent_at, inbound.c.received_at.label("heard_at"))
        .outerjoin(outbox, sent)
        .outerjoin(inbound, heard)
        .where(or_(outbox.c.sent_at.is_not(None), inbound.c.received_at.is_not(None)))
        .order_by(read_receipt.c.received_at)
        .limit(limit)
    )
    return [
        ReadReceipt(
            RoomId(row.room_id),
            UserId(row.user_id),
            EventId(row.event_id),
            row.sent_at or row.heard_at - HEARD_AFTER,
        )
        for row in (await connection.execute(query)).all()
    ]


async def drop_receipt(connection: AsyncConnection, receipt: ReadReceipt) -> None:
    """What a receipt covers is marked; a later one of the same person stays."""
    await connection.execute(
        delete(read_receipt).where(
            read_receipt.c.room_id == receipt.room,
            read_receipt.c.user_id == receipt.user,
            read_receipt.c.event_id == receipt.event,
        )
    )


async def drop_receipts_before(connection: AsyncConnection, moment: datetime) -> None:
    """Receipts for events that are not ours and that nobody said: a name that was changed, somebody who came."""
    await connection.execute(delete(read_receipt).where(read_receipt.c.received_at < moment))


async def count_receipts(connection: AsyncConnection) -> int:
    """How many receipts wait."""
    return int((await connection.execute(select(func.count()).select_from(read_receipt))).scalar_one())
