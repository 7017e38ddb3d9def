"""What may wait: quiet hours and digests, and the bundling of like events into one page."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from bridge.config import Config
from bridge.config.routing import QuietHours
from bridge.config.times import Times
from bridge.model.decision import Decision
from bridge.model.event import IntakeEvent
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.times import instant, spans


def hold_until(config: Config, quiet_hours: str | None, priority: Priority, now: datetime) -> datetime | None:
    """When a page may ring that quiet hours or a digest hold back; None if it rings at once, as STAT always does."""
    if quiet_hours is None or priority is Priority.STAT:
        return None
    quiet = config.routing.quiet_hours[quiet_hours]
    if priority not in quiet.holds:
        return None
    zone = quiet.time_zone or config.roster.time_zone
    until = _end_of_hours(config, quiet, zone, now)
    if quiet.hours and until is None:
        return None
    return _next_digest(quiet, zone, now) if quiet.digest else until


def _end_of_hours(config: Config, quiet: QuietHours, zone: ZoneInfo, now: datetime) -> datetime | None:
    """When the quiet that now reigns ends, over spans that touch each other; None outside of quiet hours."""
    end = now
    week_later = now + timedelta(days=7)
    for span in sorted(spans(Times(hours=quiet.hours), zone, config.roster, now, week_later)):
        if span.start > end:
            break
        end = max(end, span.until)
    return end if end > now else None


def _next_digest(quiet: QuietHours, zone: ZoneInfo, now: datetime) -> datetime:
    midnight = datetime.combine(now.astimezone(zone).date(), time())
    days = (midnight + timedelta(days=day) for day in range(3))
    return min(m for day in days for clock in quiet.digest if (m := instant(day + clock, zone)) > now)


def bundle_key(decision: Decision, event: IntakeEvent) -> Phi[str] | None:
    """What like events have in common: page, caller and kind. None if the decision bundles nothing.

    The priority is part of it, so that an urgent call never disappears in a routine page. The channel is not: a
    telephone system and its mail may tell of the same message.
    """
    if decision.bundle is None or event.caller is None:
        return None
    parts = (
        event.kind,
        decision.rule,
        decision.role,
        decision.priority,
        event.caller.reveal(),
    )
    return Phi("\0".join(parts))


def joins(decision: Decision, state: PageState, latest: datetime, now: datetime) -> bool:
    """Whether an event joins a page with the same bundle key, whose latest event came at `latest`.

    A page that was accepted still takes more of the same: whoever has it sees them. A closed one does not.
    """
    if decision.bundle is None or state in (PageState.CLOSED, PageState.EXPIRED):
        return False
    return latest.astimezone(UTC) + decision.bundle >= now
