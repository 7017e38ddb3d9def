"""Pages and their timers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, and_, bindparam, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.decision import Decision, Move
from bridge.model.doors import Destination
from bridge.model.ids import (
    EventId,
    IntakeId,
    LadderId,
    PageId,
    PersonId,
    RetentionClassId,
    RoleId,
    RoomId,
    RuleId,
    TemplateId,
    UserId,
)
from bridge.model.page import Page, PageState
from bridge.model.priority import Priority
from bridge.policy.ladder import latest
from bridge.store.outbox import Purpose
from bridge.store.tables import intake as intake_table
from bridge.store.tables import member, outbox, page, timer

WAITING = [state.value for state in PageState if state.waiting]
UNREAD = [PageState.OPEN.value, PageState.DELIVERED.value]


@dataclass(frozen=True, slots=True)
class DueTimer:
    """A step of a ladder whose time has come."""

    page: PageId
    step: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Opening:
    """A page that a decision has opened, and the first move of its ladder; None while it is held back."""

    page: Page
    decision: Decision
    move: Move | None
    bundle_mac: bytes | None = None


def new_page(
    intake: IntakeId, decision: Decision, move: Move | None, room: str | None, now: datetime
) -> Page:
    """The page of a decision, with the first step of its ladder taken. Nothing is stored yet."""
    return Page(
        id=PageId(uuid4().hex),
        intake=intake,
        rule=decision.rule,
        role=decision.role,
        priority=decision.priority,
        ladder=decision.ladder,
        template=decision.template,
        retention=decision.retention,
        config_hash=decision.config_hash,
        state=PageState.OPEN,
        opened_at=now,
        step=move.step if move else 0,
        notified=move.notify if move else (),
        room=room,
        held_until=decision.hold_until if move is None else None,
    )


async def open_pages(connection: AsyncConnection, openings: Sequence[Opening]) -> None:
    """Store new pages and set their timers: the ladder's, or the one that ends a quiet time."""
    rows = [
        {
            "id": opening.page.id,
            "intake": opening.page.intake,
            "rule": opening.page.rule,
            "role": opening.page.role,
            "priority": opening.page.priority.value,
            "ladder": opening.page.ladder,
            "template": opening.page.template,
            "retention": opening.page.retention,
            "config_hash": opening.page.config_hash,
            "why": list(opening.decision.why),
            "state": opening.page.state.value,
            "opened_at": opening.page.opened_at,
            "step": opening.page.step,
            "notified": list(opening.page.notified),
            "room": opening.page.room,
            "declined": [],
            "bundle_mac": opening.bundle_mac,
            "latest_at": opening.page.opened_at,
            "event_count": 1,
            "held_until": opening.page.held_until,
        }
        for opening in openings
    ]
    timers = []
    for opening in openings:
        due = opening.move.next_due if opening.move else opening.page.held_until
        if due is not None:
            step = opening.page.step + 1 if opening.move else 0
            timers.append({"page": opening.page.id, "step": step, "due_at": due})
    if rows:
        await connection.execute(insert(page), rows)
    if timers:
        await connection.execute(insert(timer), timers)


async def bundles(connection: AsyncConnection, macs: Iterable[bytes]) -> dict[bytes, tuple[Page, datetime]]:
    """The latest page of each bundle, and when its latest event came."""
    query = select(page).where(page.c.bundle_mac.in_(list(macs))).order_by(page.c.latest_at)
    return {row.bundle_mac: (_page(row), row.latest_at) for row in (await connection.execute(query)).all()}


async def join_bundle(connection: AsyncConnection, page_id: PageId, intake: IntakeId, now: datetime) -> None:
    """A like event has joined a page: it is shown in the page's message, and counted."""
    await connection.execute(
        update(page)
        .where(page.c.id == page_id)
        .values(latest=intake, latest_at=now, event_count=page.c.event_count + 1)
    )
    await connection.execute(update(intake_table).where(intake_table.c.id == intake).values(page=page_id))


async def get_page(connection: AsyncConnection, page_id: PageId, *, hold: bool = False) -> Page:
    """The page as it stands; with `hold`, as it stands until this transaction ends, since others wait for it."""
    query = select(page).where(page.c.id == page_id)
    return _page((await connection.execute(query.with_for_update() if hold else query)).one())


async def page_of_event(connection: AsyncConnection, event: EventId, room: RoomId) -> Page | None:
    """The page that a message of ours in this very room belongs to."""
    query = (
        select(page)
        .join(outbox, outbox.c.page == page.c.id)
        .where(outbox.c.event == event, outbox.c.room == room)
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _page(row)


async def waiting_pages(connection: AsyncConnection, room: RoomId) -> list[Page]:
    """The pages of a room that nobody has accepted, oldest first."""
    query = (
        select(page)
        .join(outbox, outbox.c.page == page.c.id)
        .where(outbox.c.room == room, outbox.c.purpose == Purpose.PAGE.value, page.c.state.in_(WAITING))
        .order_by(page.c.opened_at)
    )
    return [_page(row) for row in (await connection.execute(query)).all()]


_opened = page.c.state == PageState.OPEN.value
_DELIVERED = (
    update(page)
    .where(page.c.id == bindparam("which"), page.c.delivered_at.is_(None))
    .values(
        delivered_at=bindparam("at"),
        state=case((_opened, PageState.DELIVERED.value), else_=page.c.state),
    )
)


async def mark_delivered(connection: AsyncConnection, delivered: Sequence[PageId], now: datetime) -> None:
    """The homeserver has the pages' messages, and somebody can decrypt them."""
    rows = [{"which": page_id, "at": now} for page_id in delivered]
    if rows:
        await connection.execute(_DELIVERED, rows)


async def missed_pages(
    connection: AsyncConnection, roles: Iterable[RoleId]
) -> list[tuple[Page, Destination, UserId]]:
    """Waiting pages of these roles, the rooms that have them, and whoever has joined these since they were posted."""
    newer = outbox.alias("newer")
    query = (
        select(page, outbox.c.destination, member.c.user_id)
        .join(outbox, outbox.c.page == page.c.id)
        .join(member, member.c.room_id == outbox.c.room)
        .where(
            page.c.role.in_(list(roles)),
            page.c.state.in_(WAITING),
            page.c.destroyed_at.is_(None),
            outbox.c.purpose == Purpose.PAGE.value,
            member.c.membership == "join",
            member.c.joined_at > outbox.c.sent_at,
            ~exists().where(
                newer.c.page == page.c.id,
                newer.c.destination == outbox.c.destination,
                newer.c.purpose == Purpose.PAGE.value,
                newer.c.state != "failed",
                or_(newer.c.sent_at.is_(None), newer.c.sent_at >= member.c.joined_at),
            ),
        )
    )
    return [
        (_page(row), Destination.parse(row.destination), UserId(row.user_id))
        for row in (await connection.execute(query)).all()
    ]


async def recent_pages(connection: AsyncConnection, roles: Iterable[RoleId], since: datetime) -> list[Page]:
    """Pages of these roles that somebody is asked about now, or has accepted since then."""
    query = select(page).where(
        page.c.role.in_(list(roles)),
        page.c.destroyed_at.is_(None),
        page.c.held_until.is_(None),
        or_(
            page.c.state.in_(WAITING),
            and_(page.c.state == PageState.ACCEPTED.value, page.c.accepted_at >= since),
        ),
    )
    return [_page(row) for row in (await connection.execute(query)).all()]


async def begin_again(connection: AsyncConnection, readable: Sequence[PageId], now: datetime) -> None:
    """Pages that can be read only now: those whose ladder has ended meanwhile climb it anew, from its beginning."""
    ended = update(page).where(
        page.c.id.in_(readable),
        page.c.delivered_at.is_(None),
        page.c.state.in_(WAITING),
        page.c.id.not_in(select(timer.c.page)),
    )
    for found in (await connection.execute(ended.values(step=0, notified=[]).returning(page.c.id))).scalars():
        await _set_timer(connection, PageId(found), 1, now)


async def unread_pages(
    connection: AsyncConnection, roles: Iterable[RoleId], room: RoomId, until: datetime
) -> list[Page]:
    """The pages of these roles whose message we had sent to a room by then, and which nobody has read."""
    query = (
        select(page)
        .join(outbox, outbox.c.page == page.c.id)
        .where(
            page.c.role.in_(list(roles)),
            page.c.state.in_(UNREAD),
            page.c.destroyed_at.is_(None),
            outbox.c.room == room,
            outbox.c.purpose == Purpose.PAGE.value,
            outbox.c.sent_at <= until,
        )
        .order_by(page.c.opened_at)
    )
    return [_page(row) for row in (await connection.execute(query)).all()]


async def mark_read(connection: AsyncConnection, page_id: PageId) -> bool:
    """Somebody whom the page notified has read it. False if it was read, or somebody took it, before."""
    marked = await connection.execute(
        update(page).where(page.c.id == page_id, page.c.state.in_(UNREAD)).values(state=PageState.READ.value)
    )
    return marked.rowcount > 0


async def open_of_role(connection: AsyncConnection, role: RoleId) -> list[Page]:
    """The pages of a role that somebody still has to answer for, accepted ones too, oldest first."""
    states = [*WAITING, PageState.ACCEPTED.value]
    query = (
        select(page)
        .where(page.c.role == role, page.c.state.in_(states), page.c.held_until.is_(None))
        .order_by(page.c.opened_at)
    )
    return [_page(row) for row in (await connection.execute(query)).all()]


async def count_waiting(connection: AsyncConnection) -> int:
    """How many pages nobody has accepted yet."""
    query = (
        select(func.count()).select_from(page).where(page.c.state.in_(WAITING), page.c.held_until.is_(None))
    )
    return int((await connection.execute(query)).scalar_one())


async def names_in_use(connection: AsyncConnection) -> dict[str, set[str]]:
    """The roles, ladders and templates that open pages need, by kind."""
    states = [*WAITING, PageState.ACCEPTED.value]
    query = select(page.c.role, page.c.ladder, page.c.template).where(page.c.state.in_(states)).distinct()
    found = (await connection.execute(query)).all()
    return {kind: {getattr(row, kind) for row in found} for kind in ("role", "ladder", "template")}


async def unanswered(connection: AsyncConnection) -> list[Page]:
    """The pages that somebody still has to answer for, accepted ones too, the most urgent first."""
    rank = case({priority.value: priority.rank for priority in Priority}, value=page.c.priority)
    states = [*WAITING, PageState.ACCEPTED.value]
    query = select(page).where(page.c.state.in_(states)).order_by(rank, page.c.opened_at)
    return [_page(row) for row in (await connection.execute(query)).all()]


async def adopt_page(
    connection: AsyncConnection, adopted: Page, decision: Decision, move: Move | None, room: str | None
) -> None:
    """A page is what a decision says from now on; with a move, its ladder begins anew."""
    values: dict[str, Any] = {
        "role": decision.role,
        "ladder": decision.ladder,
        "template": decision.template,
        "config_hash": decision.config_hash,
        "room": room,
        "bundle_mac": None,
    }
    if move is not None:
        values |= {"step": move.step, "notified": list(move.notify), "declined": []}
        await _set_timer(connection, adopted.id, move.step + 1, move.next_due)
    await connection.execute(update(page).where(page.c.id == adopted.id).values(values))


async def accept_page(connection: AsyncConnection, page_id: PageId, by: UserId, now: datetime) -> bool:
    """Give a waiting page to whoever accepted it first and stop its ladder. False if it waits no more."""
    taken = await connection.execute(
        update(page)
        .where(page.c.id == page_id, page.c.state.in_(WAITING))
        .values(state=PageState.ACCEPTED.value, accepted_by=by, accepted_at=now)
    )
    if taken.rowcount == 0:
        return False
    await stop_timer(connection, page_id)
    return True


async def decline_page(connection: AsyncConnection, declined: Page, by: PersonId) -> None:
    """Somebody will not take a page; its ladder does not ask them again."""
    names = list(dict.fromkeys((*declined.declined, by)))
    await connection.execute(update(page).where(page.c.id == declined.id).values(declined=names))


async def close_page(connection: AsyncConnection, page_id: PageId, now: datetime) -> None:
    """The page needs nobody any more."""
    await connection.execute(
        update(page).where(page.c.id == page_id).values(state=PageState.CLOSED.value, closed_at=now)
    )
    await stop_timer(connection, page_id)


async def hand_page(connection: AsyncConnection, page_id: PageId, move: Move, room: str | None) -> None:
    """A page goes to another role or person, whose ladder begins anew; `room` is the named room it stands in."""
    await connection.execute(
        update(page)
        .where(page.c.id == page_id)
        .values(
            role=move.role,
            room=room,
            state=PageState.DELIVERED.value,
            accepted_by=None,
            accepted_at=None,
            declined=[],
            step=move.step,
            notified=list(move.notify),
        )
    )
    await _set_timer(connection, page_id, move.step + 1, move.next_due)


async def release_page(connection: AsyncConnection, page_id: PageId, move: Move) -> None:
    """A held page rings now."""
    await connection.execute(
        update(page)
        .where(page.c.id == page_id)
        .values(held_until=None, step=move.step, notified=list(move.notify))
    )
    await _set_timer(connection, page_id, move.step + 1, move.next_due)


async def wait_until(connection: AsyncConnection, waiting: Page, until: datetime) -> None:
    """Somebody has asked the page's next step to wait; after its last one, operations hear of it again."""
    await _set_timer(connection, waiting.id, waiting.step + 1, until)


async def due_timers(connection: AsyncConnection, now: datetime, limit: int) -> list[DueTimer]:
    """Timers whose time has come, the most urgent pages first."""
    rank = case({priority.value: priority.rank for priority in Priority}, value=page.c.priority)
    query = (
        select(timer.c.page, timer.c.step, timer.c.due_at)
        .join(page, page.c.id == timer.c.page)
        .where(timer.c.due_at <= now)
        .order_by(rank, timer.c.due_at)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    return [DueTimer(PageId(row.page), row.step, row.due_at) for row in rows]


async def next_due(connection: AsyncConnection) -> datetime | None:
    """When the next timer is due."""
    query = select(timer.c.due_at).order_by(timer.c.due_at).limit(1)
    due: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return due


async def hurry(connection: AsyncConnection, page_id: PageId, now: datetime) -> None:
    """Make a page's next step due at once, since the present one can reach nobody."""
    await connection.execute(
        update(timer).where(timer.c.page == page_id, timer.c.due_at > now).values(due_at=now)
    )


async def record_move(connection: AsyncConnection, climbing: Page, move: Move) -> None:
    """The page has climbed: remember the step, whom it has notified in all, and set or end its timer."""
    notified = list(latest(climbing.notified, move.notify))
    await connection.execute(
        update(page).where(page.c.id == climbing.id).values(step=move.step, notified=notified)
    )
    await _set_timer(connection, climbing.id, move.step + 1, move.next_due)


async def postpone_timer(connection: AsyncConnection, page_id: PageId, until: datetime) -> None:
    """The page's next step could not be made; it is due again then."""
    await connection.execute(update(timer).where(timer.c.page == page_id).values(due_at=until))


async def _set_timer(connection: AsyncConnection, page_id: PageId, step: int, due: datetime | None) -> None:
    await stop_timer(connection, page_id)
    if due is not None:
        await connection.execute(insert(timer).values(page=page_id, step=step, due_at=due))


async def stop_timer(connection: AsyncConnection, page_id: PageId) -> None:
    """The page climbs no further."""
    await connection.execute(delete(timer).where(timer.c.page == page_id))


def _page(row: Row[Any]) -> Page:
    return Page(
        id=PageId(row.id),
        intake=IntakeId(row.intake),
        rule=RuleId(row.rule),
        role=RoleId(row.role),
        priority=Priority(row.priority),
        ladder=LadderId(row.ladder),
        template=TemplateId(row.template),
        retention=RetentionClassId(row.retention),
        config_hash=row.config_hash,
        state=PageState(row.state),
        opened_at=row.opened_at,
        step=row.step,
        notified=tuple(PersonId(person) for person in row.notified),
        accepted_by=UserId(row.accepted_by) if row.accepted_by else None,
        accepted_at=row.accepted_at,
        room=row.room,
        declined=tuple(PersonId(person) for person in row.declined),
        latest=IntakeId(row.latest) if row.latest else None,
        count=row.event_count,
        held_until=row.held_until,
    )
