"""What callers were told in the answers to their texts, and who wants to be told nothing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import ChannelId, IntakeId
from bridge.store.tables import intake, opt_out


async def given(connection: AsyncConnection, intake_id: IntakeId) -> tuple[datetime, str | None]:
    """When an event came, and what its source was told then: "" for nothing, None if that is still to be found out."""
    query = select(intake.c.received_at, intake.c.reply).where(intake.c.id == intake_id)
    row = (await connection.execute(query)).one()
    return row.received_at, row.reply


async def give(connection: AsyncConnection, intake_id: IntakeId, text: str) -> None:
    """Remember what the source is told, so that it is told the same when it asks again."""
    await connection.execute(update(intake).where(intake.c.id == intake_id).values(reply=text))


async def told(  # noqa: PLR0917 - two of them are bounds
    connection: AsyncConnection,
    channel: ChannelId,
    caller: bytes,
    text: str,
    since: datetime,
    before: datetime,
) -> bool:
    """Whether a caller has had this very text in answer to an event of that time."""
    query = select(
        exists().where(
            intake.c.caller_mac == caller,
            intake.c.channel == channel,
            intake.c.reply == text,
            intake.c.received_at >= since,
            intake.c.received_at < before,
        )
    )
    return bool((await connection.execute(query)).scalar_one())


async def note_consent(connection: AsyncConnection, number: bytes, now: datetime, *, given: bool) -> None:
    """Somebody wants no more texts from a channel, or some again."""
    await connection.execute(delete(opt_out).where(opt_out.c.number == number))
    if not given:
        await connection.execute(insert(opt_out).values(number=number, since=now))


async def consents(connection: AsyncConnection, number: bytes) -> bool:
    """Whether a number has not asked for no more texts."""
    query = select(exists().where(opt_out.c.number == number))
    return not (await connection.execute(query)).scalar_one()
