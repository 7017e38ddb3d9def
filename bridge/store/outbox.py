"""The outbox: what has been decided and not yet been sent.

An entry is `todo` (sealed content), then `encrypted` (the bytes that go to the homeserver, and the transaction
id they go under), then `sent`; or `failed`, with the reason. Each entry of a destination waits for the one
before it, so a room reads in the order of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.doors import Destination, Envelope
from bridge.model.ids import EventId, OutboxId, PageId, RoomId
from bridge.model.phi import Phi
from bridge.store.tables import outbox
from bridge.vault import Key

WAITING = ["todo", "encrypted"]


class Purpose(StrEnum):
    """What an entry is for."""

    PAGE = "page"  # the page's message
    STATUS = "status"  # an edit of the page's message
    NUDGE = "nudge"  # a further notification of the same page
    SEED = "seed"  # a reaction for a thumb to tap
    ANSWER = "answer"  # the answer to something a person wrote
    NOTICE = "notice"  # a line for the operations room

    @property
    def lane(self) -> int:
        """0 goes first: seeds wait for every message of their room, since a page is worth more than a button."""
        return 1 if self is Purpose.SEED else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting entry; `target` (an earlier entry) or `target_event` is what it edits, answers or reacts to."""

    id: OutboxId
    page: PageId | None
    destination: Destination
    purpose: Purpose
    event_type: str
    target: OutboxId | None
    target_event: EventId | None
    data_key: str | None
    sealed: bytes | None
    transaction: str
    envelope: Envelope | None
    confirmed: EventId | None
    attempts: int
    not_before: datetime
    created_at: datetime
    error: str | None


async def put(
    connection: AsyncConnection,
    *,
    destination: Destination,
    purpose: Purpose,
    event_type: str,
    content: Phi[bytes],
    key: Key,
    now: datetime,
    urgency: int = 1,
    page: PageId | None = None,
    target: OutboxId | None = None,
    target_event: EventId | None = None,
) -> OutboxId:
    """Add an entry, sealed under the key of the page or event that it speaks of."""
    transaction = f"nb-{uuid4().hex}"
    result = await connection.execute(
        insert(outbox).values(
            page=page,
            destination=str(destination),
            purpose=purpose.value,
            event_type=event_type,
            lane=purpose.lane,
            urgency=urgency,
            target=target,
            target_event=target_event,
            data_key=key.id,
            sealed=key.seal(content, f"outbox {transaction}"),
            txn_id=transaction,
            state="todo",
            attempts=0,
            not_before=now,
            created_at=now,
        )
    )
    primary_key = result.inserted_primary_key
    assert primary_key is not None  # noqa: S101 - an insert of one row always has one
    return OutboxId(primary_key[0])


async def busy_destinations(connection: AsyncConnection, now: datetime) -> list[Destination]:
    """Destinations with something to send, the most urgent and then the oldest first."""
    query = (
        select(outbox.c.destination)
        .where(outbox.c.state.in_(WAITING), outbox.c.not_before <= now)
        .group_by(outbox.c.destination)
        .order_by(func.min(outbox.c.urgency), func.min(outbox.c.id))
    )
    return [Destination.parse(name) for name in (await connection.execute(query)).scalars()]


async def head(connection: AsyncConnection, destination: Destination) -> Entry | None:
    """The next entry of a destination."""
    query = (
        select(outbox)
        .where(outbox.c.destination == str(destination), outbox.c.state.in_(WAITING))
        .order_by(outbox.c.lane, outbox.c.id)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _entry(row)


async def messages_of(connection: AsyncConnection, page: PageId) -> dict[Destination, OutboxId]:
    """The entry of a page's message in each room that it was posted to."""
    query = select(outbox.c.destination, outbox.c.id).where(
        outbox.c.page == page, outbox.c.purpose == Purpose.PAGE.value
    )
    return {
        Destination.parse(row.destination): OutboxId(row.id)
        for row in (await connection.execute(query)).all()
    }


async def event_of(connection: AsyncConnection, entry: OutboxId) -> EventId | None:
    """The Matrix event that an entry became, or None if it never did."""
    event = (
        await connection.execute(select(outbox.c.event).where(outbox.c.id == entry))
    ).scalar_one_or_none()
    return None if event is None else EventId(event)


async def keep_envelope(connection: AsyncConnection, entry: OutboxId, envelope: Envelope) -> None:
    """Keep the bytes that will be sent, and drop the sealed content: the ciphertext is now the message."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.id == entry)
        .values(
            state="encrypted",
            room=envelope.room,
            wire_type=envelope.type,
            wire_content=envelope.content,
            session_id=envelope.session,
            sealed=None,
        )
    )


async def mark_sent(connection: AsyncConnection, entry: OutboxId, event: EventId, now: datetime) -> None:
    """The homeserver has it. The ciphertext is not kept a second time."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.id == entry)
        .values(state="sent", event=event, sent_at=now, wire_content=None, error=None)
    )


async def confirm(connection: AsyncConnection, transaction: str, event: EventId) -> None:
    """The homeserver has shown us the entry's event, so it must not be sent again."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.txn_id == transaction, outbox.c.state == "encrypted")
        .values(event=event)
    )


async def mark_failed(connection: AsyncConnection, entry: OutboxId, error: str) -> None:
    """It can never be sent, for a reason that holds no PHI."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.id == entry)
        .values(state="failed", error=error, sealed=None, wire_content=None)
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


async def next_attempt(connection: AsyncConnection, now: datetime) -> datetime | None:
    """When the earliest postponed entry wants to be tried again."""
    query = select(func.min(outbox.c.not_before)).where(
        outbox.c.state.in_(WAITING), outbox.c.not_before > now
    )
    moment: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return moment


async def depth(connection: AsyncConnection) -> int:
    """How many entries wait."""
    query = select(func.count()).select_from(outbox).where(outbox.c.state.in_(WAITING))
    return int((await connection.execute(query)).scalar_one())


def _entry(row: Row[Any]) -> Entry:
    envelope = None
    if row.state == "encrypted":
        envelope = Envelope(RoomId(row.room), row.wire_type, row.wire_content, row.session_id)
    return Entry(
        id=OutboxId(row.id),
        page=PageId(row.page) if row.page else None,
        destination=Destination.parse(row.destination),
        purpose=Purpose(row.purpose),
        event_type=row.event_type,
        target=OutboxId(row.target) if row.target is not None else None,
        target_event=EventId(row.target_event) if row.target_event else None,
        data_key=row.data_key,
        sealed=row.sealed,
        transaction=row.txn_id,
        envelope=envelope,
        confirmed=EventId(row.event) if row.event else None,
        attempts=row.attempts,
        not_before=row.not_before,
        created_at=row.created_at,
        error=row.error,
    )
