"""From local times to instants: when weekly hours, dates and holidays hold, over every change of clocks.

A local time that a change of clocks skips is read with the offset before the change, and one that occurs
twice means its first occurrence (RFC 5545, section 3.3.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays as holiday_library

from bridge.config.roster import HolidayCalendar, Roster
from bridge.config.times import Times, Window

_WHOLE_DAY = (Window(frozenset(range(7)), timedelta(0), timedelta(days=1)),)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From `start` until just before `until`, in UTC."""

    start: datetime
    until: datetime


def instant(local: datetime, zone: tzinfo) -> datetime:
    """The UTC instant of a local time."""
    return local.replace(tzinfo=zone).astimezone(UTC)


def spans(times: Times, zone: ZoneInfo, roster: Roster, start: datetime, until: datetime) -> Iterator[Span]:
    """When `times` hold, of all spans that touch `start` until `until`. Neighbours may touch or overlap."""
    day = start.astimezone(zone).date() - _DAY
    last = until.astimezone(zone).date()
    while day <= last:
        if _may_begin_on(day, times, roster):
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local, made an instant below
            for window in times.hours or _WHOLE_DAY:
                if day.weekday() in window.days:
                    begin = midnight + window.start
                    span = Span(instant(begin, zone), instant(begin + window.length, zone))
                    if span.start < until and start < span.until:
                        yield span
        day += _DAY


def holds(times: Times, zone: ZoneInfo, roster: Roster, at: datetime) -> bool:
    """Whether `times` hold at an instant."""
    return any(spans(times, zone, roster, at, at + timedelta(microseconds=1)))


def _may_begin_on(day: date, times: Times, roster: Roster) -> bool:
    if times.dates and not any(dates.first <= day <= dates.last for dates in times.dates):
        return False
    return times.holidays is None or holiday(roster.holidays[times.holidays], day) is not None


def holiday(calendar: HolidayCalendar, day: date) -> str | None:
    """The name of the holiday on a day, or None. The hospital's own days go before the public ones."""
    if day in calendar.except_:
        return None
    own = calendar.days.get(day.isoformat()) or calendar.days.get(day.isoformat()[5:])
    if own is not None or calendar.country is None:
        return own
    return _public(calendar.country, calendar.state).get(day)


@lru_cache(maxsize=64)
def _public(country: str, state: str | None) -> holiday_library.HolidayBase:
    return holiday_library.country_holidays(country, subdiv=state)
