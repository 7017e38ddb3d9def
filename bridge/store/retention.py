"""What retention reads and writes: content whose time may be up, its destruction, and the proof of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config.retention import OPERATIONS
from bridge.model.ids import EventId, IntakeId, PageId, RetentionClassId, RoleId, RoomId
from bridge.model.page import PageState
from bridge.policy.retention import Life
from bridge.store import attachments, reports
from bridge.store.database import upsert
from bridge.store.keys import KeyRing
from bridge.store.outbox import WAITING as UNSENT
from bridge.store.tables import (
    Instant,
    destruction,
    erasure,
    event_of_page,
    inbound,
    intake,
    outbox,
    page,
    timer,
)

SPOKEN = ("m.room.encrypted", "m.room.message")
WAITING = [state.value for state in PageState if state.waiting]
Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Erasure:
    """An event that must go from a room."""

    id: int
    destruction: str
    room: RoomId
    event: EventId
    redaction: EventId | None = None


@dataclass(frozen=True, slots=True)
class Destruction:
    """Content that was destroyed here."""

    id: str
    page: PageId | None
    retention: str
    why: str
    at: datetime


async def classes_alive(connection: AsyncConnection) -> list[RetentionClassId]:
    """The classes of pages that still have content."""
    query = select(page.c.retention).where(page.c.destroyed_at.is_(None)).distinct()
    return [RetentionClassId(name) for name in (await connection.execute(query)).scalars()]


async def lives(
    connection: AsyncConnection,
    retention: RetentionClassId,
    *,
    opened_before: datetime | None = None,
    after: Place | None = None,
    limit: int,
) -> list[Life]:
    """Pages of a class that still have content, the oldest first; all, or those opened before a moment."""
    query = (
        select(page, intake.c.caller_mac)
        .join(intake, intake.c.id == page.c.intake)
        .where(page.c.retention == retention, page.c.destroyed_at.is_(None))
        .order_by(page.c.opened_at, page.c.id)
        .limit(limit)
    )
    if opened_before is not None:
        query = query.where(page.c.opened_at <= opened_before)
    if after is not None:
        opened, last = after
        query = query.where(tuple_(page.c.opened_at, page.c.id) > tuple_(literal(opened, Instant), last))
    return await _lives(connection, (await connection.execute(query)).all())


async def life_of(connection: AsyncConnection, page_id: PageId) -> Life | None:
    """A page that still has content."""
    query = select(page, intake.c.caller_mac).join(intake, intake.c.id == page.c.intake)
    query = query.where(page.c.id == page_id, page.c.destroyed_at.is_(None))
    found = await _lives(connection, (await connection.execute(query)).all())
    return found[0] if found else None


async def life_of_words(connection: AsyncConnection, words: EventId) -> Life | None:
    """The page, if it still has content, that something a person wrote is about."""
    query = (
        select(outbox.c.page)
        .join(inbound, inbound.c.about == outbox.c.event)
        .where(inbound.c.event_id == words, outbox.c.page.is_not(None))
    )
    found = (await connection.execute(query)).scalars().first()
    return None if found is None else await life_of(connection, PageId(found))


async def _lives(connection: AsyncConnection, rows: Sequence[Any]) -> list[Life]:
    rooms: defaultdict[str, set[RoomId]] = defaultdict(set)
    places = select(outbox.c.page, outbox.c.room).where(
        outbox.c.page.in_([row.id for row in rows]), outbox.c.room.is_not(None)
    )
    for place in (await connection.execute(places.distinct())).all():
        rooms[place.page].add(RoomId(place.room))
    return [
        Life(
            page=PageId(row.id),
            role=RoleId(row.role),
            retention=RetentionClassId(row.retention),
            arrived=row.opened_at,
            accepted=row.accepted_at,
            closed=row.closed_at,
            rooms=frozenset(rooms[row.id]),
            caller=row.caller_mac,
            latest=row.latest_at,
        )
        for row in rows
    ]


async def keys_of(connection: AsyncConnection, pages: Sequence[PageId]) -> list[str]:
    """The data keys of these pages' content."""
    query = select(intake.c.data_key).where(_belongs_to(pages), intake.c.state != "destroyed")
    return list((await connection.execute(query)).scalars())


async def intakes_of(connection: AsyncConnection, page_id: PageId) -> list[IntakeId]:
    """The events of a page that are not destroyed, in the order in which they came."""
    query = select(intake.c.id).where(_belongs_to([page_id]), intake.c.state != "destroyed")
    return [IntakeId(found) for found in (await connection.execute(query.order_by(intake.c.seq))).scalars()]


async def destroy_pages(
    connection: AsyncConnection, keys: KeyRing, ends: Sequence[tuple[Life, str]], now: datetime
) -> list[PageId]:
    """Destroy the content of pages here, and note what must go from their rooms.

    Returns those whose content it was: others may have destroyed some since they were read.
    """
    state = case((page.c.state.in_(WAITING), PageState.EXPIRED.value), else_=page.c.state)
    alive = page.c.id.in_([life.page for life, _ in ends]) & page.c.destroyed_at.is_(None)
    statement = update(page).where(alive).values(state=state, destroyed_at=now).returning(page.c.id)
    pages = [PageId(name) for name in (await connection.execute(statement)).scalars()]
    ends = [(life, why) for life, why in ends if life.page in pages]
    if not pages:
        return []
    await connection.execute(delete(timer).where(timer.c.page.in_(pages)))
    ids = {life.page: uuid4().hex for life, _ in ends}
    facts = [
        {
            "id": ids[life.page],
            "page": life.page,
            "facts": {"class": life.retention, "why": why},
            "at": now,
        }
        for life, why in ends
    ]
    await connection.execute(insert(destruction), facts)
    await _destroy_messages(connection, ids)
    # An event that several pages share goes with the last of them.
    other = page.alias()
    shared = exists().where(
        other.c.destroyed_at.is_(None), or_(other.c.intake == intake.c.id, other.c.id == intake.c.page)
    )
    query = (
        select(intake.c.id, intake.c.data_key, func.min(page.c.id).label("of"))
        .join(page, event_of_page)
        .where(_belongs_to(pages), page.c.id.in_(pages), intake.c.state != "destroyed", ~shared)
        .group_by(intake.c.id, intake.c.data_key)
    )
    events = (await connection.execute(query)).all()
    destructions = {row.id: ids[row.of] for row in events}
    await destroy_intakes(connection, keys, events, destructions, now)
    return pages


async def _destroy_messages(connection: AsyncConnection, destructions: Mapping[PageId, str]) -> None:
    """What was sent of pages, is on its way, or was answered: it must go from the rooms, and goes here."""
    mine = outbox.c.page.in_(list(destructions))
    query = select(outbox.c.page, outbox.c.room, outbox.c.event).where(mine)
    messages = (await connection.execute(query)).all()
    if not messages:
        return
    of = {row.event: destructions[row.page] for row in messages if row.event}
    answers = select(inbound.c.event_id, inbound.c.room_id, inbound.c.about).where(
        inbound.c.about.in_(list(of)), inbound.c.state != "destroyed"
    )
    said = (await connection.execute(answers)).all()
    places = [(of[row.event], row.room, row.event) for row in messages if row.event]
    places += [(of[row.about], row.room_id, row.event_id) for row in said]
    await note_erasures(connection, places)
    await forget_words(connection, [row.event_id for row in said])
    unsent = outbox.c.state.in_(UNSENT)
    await connection.execute(
        update(outbox)
        .where(mine)
        .values(
            sealed=None,
            wire_content=None,
            state=case((unsent, "failed"), else_=outbox.c.state),
            error=case((unsent, "its content was destroyed"), else_=outbox.c.error),
        )
    )


async def recall_words(
    connection: AsyncConnection, words: EventId, room: RoomId, why: str, now: datetime
) -> None:
    """What a person wrote goes from its room and from here, before its time."""
    identifier = uuid4().hex
    facts = {"class": OPERATIONS, "why": why}
    await connection.execute(insert(destruction).values(id=identifier, facts=facts, at=now))
    await note_erasures(connection, [(identifier, room, words)])
    await forget_words(connection, [words])


async def is_recalled(connection: AsyncConnection) -> bool:
    """Whether something waits to be taken back from its room."""
    waiting = select(erasure.c.id).where(erasure.c.state == "todo").limit(1)
    return (await connection.execute(waiting)).first() is not None


async def note_erasures(connection: AsyncConnection, places: Iterable[tuple[str, str, str]]) -> None:
    """Events that must go from their rooms, for a destruction; each once."""
    rows = [
        {"destruction": identifier, "room": place, "event": event, "state": "todo"}
        for identifier, place, event in places
    ]
    if rows:
        statement = upsert(connection, erasure).on_conflict_do_nothing(index_elements=["event"])
        await connection.execute(statement, rows)


async def waiting_erasures(connection: AsyncConnection, limit: int) -> list[Erasure]:
    """Events that are not redacted yet."""
    query = select(erasure).where(erasure.c.state == "todo").order_by(erasure.c.id).limit(limit)
    return [_erasure(row) for row in (await connection.execute(query)).all()]


async def settle_erasures(connection: AsyncConnection, redactions: Mapping[int, EventId | None]) -> None:
    """Events were redacted, or (None) the homeserver refused."""
    rows = [
        {"which": identifier, "outcome": "redacted" if by else "refused", "by": by}
        for identifier, by in redactions.items()
    ]
    if rows:
        statement = update(erasure).where(erasure.c.id == bindparam("which"))
        statement = statement.values(state=bindparam("outcome"), redaction=bindparam("by"))
        await connection.execute(statement, rows)


async def unproved(connection: AsyncConnection, limit: int) -> list[Destruction]:
    """Destructions whose events are all redacted, and that have no certificate yet."""
    waiting = exists().where(erasure.c.destruction == destruction.c.id, erasure.c.state == "todo")
    query = select(destruction).where(destruction.c.certificate.is_(None), ~waiting)
    rows = (await connection.execute(query.order_by(destruction.c.at).limit(limit))).all()
    return [
        Destruction(
            row.id, PageId(row.page) if row.page else None, row.facts["class"], row.facts["why"], row.at
        )
        for row in rows
    ]


async def erasures_of(connection: AsyncConnection, destructions: Sequence[str]) -> dict[str, list[Erasure]]:
    """The events of destructions."""
    query = select(erasure).where(erasure.c.destruction.in_(destructions)).order_by(erasure.c.id)
    found: dict[str, list[Erasure]] = {identifier: [] for identifier in destructions}
    for row in (await connection.execute(query)).all():
        found[row.destruction].append(_erasure(row))
    return found


async def certify(connection: AsyncConnection, certificates: Mapping[str, str]) -> None:
    """Keep the certificates of destructions. The messages that they name are not needed any more."""
    rows = [{"identifier": identifier, "text": text} for identifier, text in certificates.items()]
    statement = update(destruction).where(destruction.c.id == bindparam("identifier"))
    await connection.execute(statement.values(certificate=bindparam("text")), rows)
    named = select(erasure.c.event).where(erasure.c.destruction.in_(list(certificates)))
    await connection.execute(delete(outbox).where(outbox.c.event.in_(named)))


async def stragglers(connection: AsyncConnection, since: datetime) -> list[tuple[str, str, str]]:
    """Messages of destroyed pages that were on their way to the homeserver when their content was destroyed.

    For each the destruction, the room and the event.
    """
    noted = exists().where(erasure.c.event == outbox.c.event)
    query = (
        select(outbox.c.room, outbox.c.event, destruction.c.id)
        .join(page, page.c.id == outbox.c.page)
        .join(destruction, destruction.c.page == page.c.id)
        .where(page.c.destroyed_at >= since, outbox.c.event.is_not(None), ~noted)
    )
    return [(row.id, row.room, row.event) for row in (await connection.execute(query)).all()]


async def certificates(connection: AsyncConnection, page_id: PageId | None = None) -> list[str]:
    """All certificates, or those of a page."""
    query = select(destruction.c.certificate).where(destruction.c.certificate.is_not(None))
    if page_id is not None:
        query = query.where(destruction.c.page == page_id)
    return list((await connection.execute(query.order_by(destruction.c.at))).scalars())


async def oldest_alive(connection: AsyncConnection, rooms: Sequence[RoomId]) -> dict[RoomId, EventId]:
    """The oldest event of each room that must not go yet: everything before it may be purged."""
    gone = exists().where(erasure.c.event == outbox.c.event)
    first = select(func.min(outbox.c.id)).where(outbox.c.room.in_(rooms), outbox.c.event.is_not(None), ~gone)
    ours = select(outbox.c.room, outbox.c.sent_at, outbox.c.event).where(
        outbox.c.id.in_(first.group_by(outbox.c.room))
    )
    earliest = select(func.min(inbound.c.seq)).where(
        inbound.c.room_id.in_(rooms), inbound.c.state != "destroyed"
    )
    theirs = select(inbound.c.room_id, inbound.c.sent_at, inbound.c.event_id).where(
        inbound.c.seq.in_(earliest.group_by(inbound.c.room_id))
    )
    alive: dict[RoomId, tuple[datetime, EventId]] = {}
    for query in (ours, theirs):
        for room, sent_at, event in (await connection.execute(query)).all():
            if sent_at is not None:
                alive[room] = min(alive.get(room, (sent_at, event)), (sent_at, event))
    return {room: event for room, (_, event) in alive.items()}


async def to_be_purged(connection: AsyncConnection) -> dict[RoomId, Erasure]:
    """The last redaction in each room of which no certificate tells yet."""
    latest = (
        select(func.max(erasure.c.id))
        .join(destruction, destruction.c.id == erasure.c.destruction)
        .where(destruction.c.certificate.is_(None), erasure.c.redaction.is_not(None))
        .group_by(erasure.c.room)
    )
    rows = (await connection.execute(select(erasure).where(erasure.c.id.in_(latest)))).all()
    return {RoomId(row.room): _erasure(row) for row in rows}


def _belongs_to(pages: Sequence[PageId]) -> Any:
    opened = select(page.c.intake).where(page.c.id.in_(pages))
    return or_(intake.c.id.in_(opened), intake.c.page.in_(pages))


async def destroy_intakes(
    connection: AsyncConnection,
    keys: KeyRing,
    rows: Sequence[Any],
    destructions: Mapping[str, str],
    now: datetime,
) -> None:
    """Destroy events (rows with `id` and `data_key`) and their keys, each for a destruction."""
    events = [row.id for row in rows]
    await connection.execute(
        update(intake).where(intake.c.id.in_(events)).values(state="destroyed", sealed=b"")
    )
    await attachments.destroy(connection, destructions)
    await reports.destroy(connection, events)
    await keys.destroy(connection, [row.data_key for row in rows], now.date().isoformat())


async def forget_words(connection: AsyncConnection, events: Sequence[str]) -> None:
    """What people wrote is on its way out; nothing of it is needed again."""
    await connection.execute(
        update(inbound).where(inbound.c.event_id.in_(events)).values(state="destroyed", content={})
    )


def _erasure(row: Any) -> Erasure:
    redaction = EventId(row.redaction) if row.redaction else None
    return Erasure(row.id, row.destruction, RoomId(row.room), EventId(row.event), redaction)
