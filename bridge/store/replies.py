"""What callers are told in answer to their texts, what of it is still to be sent, and who wants to be told nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.store.database import upsert
from bridge.store.keys import WRAPPED, KeyRing
from bridge.store.tables import data_key, day_key, intake, opt_out, owed_reply
from bridge.vault import VaultError


@dataclass(frozen=True, slots=True)
class Owed:
    """Words that are to be sent to whoever wrote. `begun` means that they may have been sent already."""

    intake: IntakeId
    channel: ChannelId
    event: IntakeEvent
    text: str
    attempts: int
    at: datetime
    begun: bool


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


async def owe(connection: AsyncConnection, intake_id: IntakeId, channel: ChannelId, now: datetime) -> None:
    """What was given as the answer to an event is to be sent, once."""
    row = {
        "intake": intake_id,
        "channel": channel,
        "state": "todo",
        "attempts": 0,
        "at": now,
        "not_before": now,
    }
    statement = upsert(connection, owed_reply).on_conflict_do_nothing(index_elements=["intake"])
    await connection.execute(statement.values(row))


async def owed(
    connection: AsyncConnection, keys: KeyRing, channels: Sequence[ChannelId], now: datetime, limit: int
) -> list[Owed]:
    """What is to be sent now, the oldest first."""
    query = (
        select(
            owed_reply,
            intake.c.reply,
            intake.c.sealed,
            intake.c.data_key,
            *WRAPPED,
        )
        .join(intake, intake.c.id == owed_reply.c.intake)
        .join(data_key, data_key.c.id == intake.c.data_key)
        .join(day_key, day_key.c.id == data_key.c.day_key)
        .where(
            owed_reply.c.channel.in_(channels), owed_reply.c.state == "todo", owed_reply.c.not_before <= now
        )
        .order_by(owed_reply.c.not_before)
        .limit(limit)
    )
    found = []
    for row in (await connection.execute(query)).all():
        with suppress(VaultError):  # a row that was changed must not keep others back
            key = keys.key_of_row(row)
            event = IntakeEvent.from_seal_form(key.open(row.sealed, f"intake {row.intake}"))
            begun = row.begun_at is not None
            channel = ChannelId(row.channel)
            one = Owed(IntakeId(row.intake), channel, event, row.reply, row.attempts, row.at, begun)
            found.append(one)
    return found


async def too_late(connection: AsyncConnection, before: datetime, limit: int) -> list[tuple[IntakeId, bool]]:
    """What should have been sent before a moment, and was not; True for what may have been."""
    query = select(owed_reply.c.intake, owed_reply.c.begun_at).where(
        owed_reply.c.state == "todo", owed_reply.c.at < before
    )
    rows = await connection.execute(query.order_by(owed_reply.c.not_before).limit(limit))
    return [(IntakeId(row.intake), row.begun_at is not None) for row in rows]


async def begin(connection: AsyncConnection, intakes: Sequence[IntakeId], now: datetime) -> None:
    """These are about to be sent."""
    mine = update(owed_reply).where(owed_reply.c.intake.in_(intakes))
    await connection.execute(mine.values(begun_at=now))


async def settle(
    connection: AsyncConnection, intake_id: IntakeId, state: str, error: str | None = None
) -> bool:
    """They were sent (`done`), are not to be sent (`unwanted`), or can't be (`failed`)."""
    mine = update(owed_reply).where(owed_reply.c.intake == intake_id, owed_reply.c.state == "todo")
    return bool((await connection.execute(mine.values(state=state, error=error))).rowcount)


async def put_off(
    connection: AsyncConnection, intake_id: IntakeId, until: datetime, error: str, *, surely: bool
) -> None:
    """Try again later; `surely` if it is known that they were not sent."""
    values = {"attempts": owed_reply.c.attempts + 1, "not_before": until, "error": error}
    if surely:
        values["begun_at"] = None
    await connection.execute(update(owed_reply).where(owed_reply.c.intake == intake_id).values(values))
