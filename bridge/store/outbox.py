"""The outbox: what has been decided and not yet been sent.

An entry is `todo` (sealed content), then `encrypted` (the bytes that go to the homeserver, and the transaction
id they go under), then `sent`; or `failed`, with the reason. Each entry of a destination waits for the one
before it, so a room reads in the order of decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, bindparam, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.doors import Destination, Envelope
from bridge.model.ids import EventId, OutboxId, PageId, RoomId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.store.keys import WRAPPED, KeyRing
from bridge.store.tables import data_key, day_key, outbox
from bridge.vault import Key, VaultError

WAITING = ["todo", "encrypted"]
_earlier = outbox.alias("earlier")

# Run for every message, so they are made once: to build a statement costs more than to run it.
_HEAD = (
    select(
        outbox,
        _earlier.c.event.label("earlier_event"),
        *WRAPPED,
    )
    .outerjoin(_earlier, _earlier.c.txn_id == outbox.c.target)
    .outerjoin(data_key, data_key.c.id == outbox.c.data_key)
    .outerjoin(day_key, day_key.c.id == data_key.c.day_key)
    .where(outbox.c.destination == bindparam("place"), outbox.c.state.in_(WAITING))
    .order_by(outbox.c.lane, outbox.c.id)
    .limit(1)
)
_KEEP = (
    update(outbox)
    .where(outbox.c.id == bindparam("entry"))
    .values(
        state="encrypted",
        room=bindparam("of_room"),
        wire_type=bindparam("of_type"),
        wire_content=bindparam("bytes"),
        session_id=bindparam("session"),
        sealed=None,
    )
)
_SENT = (
    update(outbox)
    .where(outbox.c.id == bindparam("entry"))
    .values(
        state="sent",
        event=bindparam("as_event"),
        room=bindparam("of_room"),
        sent_at=bindparam("at"),
        sealed=None,
        wire_content=None,
        error=None,
    )
)
_LAST = select(func.max(outbox.c.id))
_DESTINATIONS = (
    select(outbox.c.destination)
    .where(outbox.c.state.in_(WAITING), outbox.c.id > bindparam("after"))
    .group_by(outbox.c.destination)
    .order_by(func.min(outbox.c.urgency), func.min(outbox.c.id))
)


class Purpose(StrEnum):
    """What an entry is for."""

    PAGE = "page"  # the page's message
    STATUS = "status"  # an edit of the page's message
    NUDGE = "nudge"  # a further notification of the same page
    SEED = "seed"  # a reaction for a thumb to tap
    NOTE = "note"  # a line of the page's history, in its thread
    MEDIA = "media"  # a recording, picture or file of the page, in its thread
    ANSWER = "answer"  # the answer to something a person wrote
    NOTICE = "notice"  # a line for the operations room

    @property
    def lane(self) -> int:
        """0 goes first: a page is worth more than a button or a line of history, which wait for it."""
        return 1 if self in (Purpose.SEED, Purpose.NOTE, Purpose.MEDIA) else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting entry.

    `related` says that it edits, answers or reacts to an earlier message; `target` is that message's event, or
    None if it was never sent. `content` is None once the envelope is kept, or when its key was destroyed.
    """

    id: OutboxId
    page: PageId | None
    destination: Destination
    purpose: Purpose
    event_type: str
    related: bool
    target: EventId | None
    content: Phi[bytes] | None
    transaction: str
    envelope: Envelope | None
    confirmed: EventId | None
    attempts: int
    not_before: datetime
    created_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has been decided. `target` is the transaction of the earlier draft that it edits or answers."""

    destination: Destination
    purpose: Purpose
    content: Phi[bytes]
    key: Key
    event_type: str = "m.room.message"
    urgency: int = Priority.URGENT.rank
    page: PageId | None = None
    target: str | None = None
    target_event: EventId | None = None
    transaction: str = field(default_factory=lambda: f"nb-{uuid4().hex}")


async def put(connection: AsyncConnection, drafts: Sequence[Draft], now: datetime) -> None:
    """Add drafts in their order, each sealed under the key of the page or event that it speaks of."""
    rows = [
        {
            "page": draft.page,
            "destination": str(draft.destination),
            "purpose": draft.purpose.value,
            "event_type": draft.event_type,
            "lane": draft.purpose.lane,
            "urgency": draft.urgency,
            "target": draft.target,
            "target_event": draft.target_event,
            "data_key": draft.key.id,
            "sealed": draft.key.seal(draft.content, f"outbox {draft.transaction}"),
            "txn_id": draft.transaction,
            "state": "todo",
            "attempts": 0,
            "not_before": now,
            "created_at": now,
        }
        for draft in drafts
    ]
    if rows:
        await connection.execute(insert(outbox), rows)


async def destinations(connection: AsyncConnection, after: OutboxId) -> tuple[list[Destination], OutboxId]:
    """Where entries later than `after` wait to go, the most urgent and then the oldest first; and the last entry."""
    last = (await connection.execute(_LAST)).scalar_one_or_none() or 0
    names = (await connection.execute(_DESTINATIONS, {"after": after})).scalars()
    found = [Destination.parse(name) for name in names]
    return found, OutboxId(last)


async def head(connection: AsyncConnection, keys: KeyRing, destination: Destination) -> Entry | None:
    """The next entry of a destination, opened."""
    row = (await connection.execute(_HEAD, {"place": str(destination)})).one_or_none()
    return None if row is None else _entry(row, keys)


async def messages_of(connection: AsyncConnection, page: PageId) -> list[tuple[Destination, str]]:
    """The transactions of a page's messages, and the rooms that they were posted to, the latest last."""
    query = (
        select(outbox.c.destination, outbox.c.txn_id)
        .where(outbox.c.page == page, outbox.c.purpose == Purpose.PAGE.value)
        .order_by(outbox.c.id)
    )
    return [
        (Destination.parse(row.destination), str(row.txn_id))
        for row in (await connection.execute(query)).all()
    ]


async def keep_envelopes(connection: AsyncConnection, envelopes: Sequence[tuple[OutboxId, Envelope]]) -> None:
    """Keep the bytes that will be sent, and drop the sealed content: the ciphertext is now the message."""
    rows = [
        {
            "entry": entry,
            "of_room": envelope.room,
            "of_type": envelope.type,
            "bytes": envelope.content,
            "session": envelope.session,
        }
        for entry, envelope in envelopes
    ]
    if rows:
        await connection.execute(_KEEP, rows)


async def mark_sent(
    connection: AsyncConnection, sent: Sequence[tuple[OutboxId, RoomId, EventId]], now: datetime
) -> None:
    """The homeserver has them. The ciphertext is not kept a second time."""
    rows = [{"entry": entry, "of_room": room, "as_event": event, "at": now} for entry, room, event in sent]
    if rows:
        await connection.execute(_SENT, rows)


async def confirm(connection: AsyncConnection, transaction: str, event: EventId) -> None:
    """The homeserver has shown us the entry's event, so it must not be sent again."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.txn_id == transaction, outbox.c.state == "encrypted")
        .values(event=event)
    )


async def is_awaited(connection: AsyncConnection, event: EventId, room: RoomId, since: datetime) -> bool:
    """Whether an event is unknown, and may be the one that a message of then, whose sending is not answered, became."""
    query = select(
        ~exists().where(outbox.c.event == event)
        & exists().where(
            outbox.c.room == room,
            outbox.c.state == "encrypted",
            outbox.c.event.is_(None),
            outbox.c.created_at <= since,
        )
    )
    return bool((await connection.execute(query)).scalar_one())


async def mark_failed(connection: AsyncConnection, entry: OutboxId, error: str) -> None:
    """It can never be sent, for a reason that holds no PHI."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.id == entry)
        .values(state="failed", error=error, sealed=None, wire_content=None)
    )


async def withdraw(connection: AsyncConnection, page: PageId, destination: Destination) -> None:
    """What waits to be said of a page at a destination is said elsewhere."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.page == page, outbox.c.state.in_(WAITING), outbox.c.destination == str(destination))
        .values(
            state="failed", error="its room is in the configuration no more", sealed=None, wire_content=None
        )
    )


async def postpone(connection: AsyncConnection, entry: OutboxId, until: datetime, error: str) -> None:
    """Try again later; those behind it in its room wait too."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.id == entry)
        .values(attempts=outbox.c.attempts + 1, not_before=until, error=error)
    )


async def hasten(connection: AsyncConnection, now: datetime) -> None:
    """Try every postponed entry at once: what it waited for may have come."""
    await connection.execute(
        update(outbox).where(outbox.c.state.in_(WAITING), outbox.c.not_before > now).values(not_before=now)
    )


async def depth(connection: AsyncConnection) -> int:
    """How many entries wait."""
    query = select(func.count()).select_from(outbox).where(outbox.c.state.in_(WAITING))
    return int((await connection.execute(query)).scalar_one())


def _entry(row: Row[Any], keys: KeyRing) -> Entry:
    envelope = content = None
    if row.state == "encrypted":
        envelope = Envelope(RoomId(row.room), row.wire_type, row.wire_content, row.session_id)
    elif row.wrapped is not None:
        with suppress(VaultError):  # a row that was changed can't be sent, and must not keep others from it
            key = keys.key_of_row(row)
            content = key.open(row.sealed, f"outbox {row.txn_id}")
    target = row.target_event or row.earlier_event
    return Entry(
        id=OutboxId(row.id),
        page=PageId(row.page) if row.page else None,
        destination=Destination.parse(row.destination),
        purpose=Purpose(row.purpose),
        event_type=row.event_type,
        related=bool(row.target or row.target_event),
        target=EventId(target) if target else None,
        content=content,
        transaction=row.txn_id,
        envelope=envelope,
        confirmed=EventId(row.event) if row.event else None,
        attempts=row.attempts,
        not_before=row.not_before,
        created_at=row.created_at,
        error=row.error,
    )
