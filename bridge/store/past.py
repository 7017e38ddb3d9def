"""What was taken in, and which pages it became: metadata only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.event import EventKind
from bridge.model.ids import ChannelId, IntakeId, RoleId, RuleId
from bridge.model.priority import Priority
from bridge.store.tables import event_of_page, intake, page


@dataclass(frozen=True, slots=True)
class PastPage:
    """A page that an event opened or joined."""

    rule: RuleId
    role: RoleId
    priority: Priority


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event that was routed, and its pages."""

    id: IntakeId
    channel: ChannelId
    kind: EventKind
    received_at: datetime
    pages: tuple[PastPage, ...]


async def events_since(connection: AsyncConnection, since: datetime) -> list[PastEvent]:
    """The readable events that were routed since an instant, in the order in which they came."""
    query = (
        select(
            intake.c.id,
            intake.c.channel,
            intake.c.kind,
            intake.c.received_at,
            page.c.rule,
            page.c.role,
            page.c.priority,
        )
        .outerjoin(page, event_of_page)
        .where(intake.c.received_at >= since, intake.c.unreadable.is_(None), intake.c.state != "todo")
        .order_by(intake.c.seq, page.c.rule)
    )
    found: dict[str, PastEvent] = {}
    for row in (await connection.execute(query)).all():
        before = found[row.id].pages if row.id in found else ()
        pages = (
            (PastPage(RuleId(row.rule), RoleId(row.role), Priority(row.priority)),)
            if row.rule is not None
            else ()
        )
        found[row.id] = PastEvent(
            IntakeId(row.id),
            ChannelId(row.channel),
            EventKind(row.kind),
            row.received_at,
            (*before, *pages),
        )
    return list(found.values())
