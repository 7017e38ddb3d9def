"""What belongs to no page: it goes by its age alone, where no hold keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    not_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import EventId
from bridge.policy.retention import Hold, HoldKind
from bridge.store.keys import KeyRing
from bridge.store.outbox import WAITING as UNSENT
from bridge.store.retention import destroy_intakes, forget_words, note_erasures
from bridge.store.tables import data_key, destruction, inbound, intake, outbox, page, room


@dataclass(frozen=True, slots=True)
class HeldSpan:
    """A room, or every room, in which a hold keeps what came within a time."""

    room: str | None
    start: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Loose:
    """What belongs to no page: it goes by its age alone, where no hold keeps it."""

    before: datetime
    held: tuple[HeldSpan, ...] = ()

    def covers(self, moment: ColumnElement[datetime], place: ColumnElement[Any]) -> ColumnElement[bool]:
        """The condition for what may go."""
        conditions = [moment <= self.before]
        for span in self.held:
            within: list[ColumnElement[bool]] = [true()]
            within += [place == span.room] if span.room is not None else []
            within += [moment >= span.start] if span.start is not None else []
            within += [moment < span.until] if span.until is not None else []
            conditions.append(not_(func.coalesce(and_(*within), false())))
        return and_(*conditions)


async def older_than(connection: AsyncConnection, before: datetime, in_force: Iterable[Hold]) -> Loose:
    """What belongs to no page and may go, where these holds are in force."""
    rooms = {row.destination: row.room_id for row in (await connection.execute(select(room))).all()}
    held = []
    for hold in in_force:
        if hold.kind is HoldKind.RANGE:
            held.append(HeldSpan(None, hold.start, hold.until))
        elif hold.kind is HoldKind.ROOM:
            held.append(HeldSpan(hold.value, hold.start, hold.until))
        elif hold.kind is HoldKind.ROLE and f"role:{hold.value}" in rooms:
            held.append(HeldSpan(rooms[f"role:{hold.value}"], hold.start, hold.until))
    return Loose(before, tuple(held))


async def may_go(connection: AsyncConnection, words: EventId, loose: Loose) -> bool:
    """Whether no hold keeps what a person wrote."""
    free = loose.covers(inbound.c.received_at, inbound.c.room_id)
    query = select(inbound.c.seq).where(inbound.c.event_id == words, free)
    return (await connection.execute(query)).first() is not None


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of what people wrote, of our own notices, and of requests that could not be read."""

    said: Sequence[Any]
    notices: Sequence[Any]
    unread: Sequence[Any]

    def __len__(self) -> int:
        return len(self.said) + len(self.notices) + len(self.unread)


async def find(connection: AsyncConnection, loose: Loose, *, limit: int) -> Found:
    """What belongs to no page, is old enough and not held; of each kind so many."""
    return Found(
        await _old_words(connection, loose, limit),
        await _old_notices(connection, loose, limit),
        await _old_requests(connection, loose, limit),
    )


async def destroy(connection: AsyncConnection, keys: KeyRing, found: Found, why: str, now: datetime) -> None:
    """Destroy what was found."""
    identifier = uuid4().hex
    said, ours, unread = found.said, found.notices, found.unread
    facts = {"class": "operations", "why": why}
    await connection.execute(insert(destruction).values(id=identifier, facts=facts, at=now))
    places = [(identifier, row.room_id, row.event_id) for row in said]
    places += [(identifier, row.room, row.event) for row in ours if row.event]
    await note_erasures(connection, places)
    await forget_words(connection, [row.event_id for row in said])
    await connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in ours])))
    await destroy_intakes(connection, keys, unread, {row.id: identifier for row in unread}, now)
    used = exists().where(intake.c.data_key == data_key.c.id, intake.c.state != "destroyed")
    used_too = exists().where(outbox.c.data_key == data_key.c.id, outbox.c.state.in_(UNSENT))
    named = data_key.c.id.in_([row.data_key for row in ours if row.data_key])
    query = select(data_key.c.id).where(named, ~used, ~used_too)
    await keys.destroy(connection, list((await connection.execute(query)).scalars()), now.date().isoformat())


async def _old_words(connection: AsyncConnection, loose: Loose, limit: int) -> Sequence[Any]:
    """What people wrote beside any page that still lives, and reactions, which go without a word."""
    about_alive = exists().where(
        outbox.c.event == inbound.c.about, page.c.id == outbox.c.page, page.c.destroyed_at.is_(None)
    )
    query = select(inbound.c.event_id, inbound.c.room_id).where(
        inbound.c.state.not_in(("destroyed", "todo")),
        ~about_alive,
        loose.covers(inbound.c.received_at, inbound.c.room_id),
    )
    return (await connection.execute(query.order_by(inbound.c.received_at).limit(limit))).all()


async def _old_notices(connection: AsyncConnection, loose: Loose, limit: int) -> Sequence[Any]:
    query = select(outbox.c.id, outbox.c.room, outbox.c.event, outbox.c.data_key).where(
        outbox.c.page.is_(None),
        outbox.c.state.not_in(UNSENT),
        loose.covers(outbox.c.created_at, outbox.c.room),
    )
    return (await connection.execute(query.order_by(outbox.c.created_at).limit(limit))).all()


async def _old_requests(connection: AsyncConnection, loose: Loose, limit: int) -> Sequence[Any]:
    query = select(intake.c.id, intake.c.data_key).where(
        intake.c.state == "done",
        intake.c.unreadable.is_not(None),
        loose.covers(intake.c.received_at, literal("")),
    )
    return (await connection.execute(query.order_by(intake.c.received_at).limit(limit))).all()
