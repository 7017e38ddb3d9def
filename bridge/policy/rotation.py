"""The hand-offs of a rotation, by the clock on the wall."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from bridge.config.roster import HandOff, interval_of
from bridge.policy.times import instant


def hand_off_index(hand_off: HandOff, zone: ZoneInfo, at: datetime) -> int | None:
    """How many hand-offs there were before the current one at an instant; None before the first."""
    if hand_off.every.startswith("RRULE:"):
        return _last_at_or_before(_occurrences(hand_off.every, hand_off.start, zone, at.year + 1), at)
    every = interval_of(hand_off.every)
    index = (at.astimezone(zone).replace(tzinfo=None) - hand_off.start) // every
    # The clock's reading can be up to a change of clocks away from the count of instants.
    while instant(hand_off.start + (index + 1) * every, zone) <= at:
        index += 1
    while instant(hand_off.start + index * every, zone) > at:
        index -= 1
    return index if index >= 0 else None


def _last_at_or_before(moments: tuple[datetime, ...], at: datetime) -> int | None:
    found = bisect_right(moments, at)
    return found - 1 if found else None


def hand_offs(hand_off: HandOff, zone: ZoneInfo, start: datetime, until: datetime) -> Iterator[datetime]:
    """The instants of all hand-offs from `start` until `until`."""
    if hand_off.every.startswith("RRULE:"):
        moments = _occurrences(hand_off.every, hand_off.start, zone, until.year + 1)
        yield from (moment for moment in moments if start <= moment < until)
        return
    every = interval_of(hand_off.every)
    local = hand_off.start + max(hand_off_index(hand_off, zone, start) or 0, 0) * every
    while (moment := instant(local, zone)) < until:
        if moment >= start:
            yield moment
        local += every


@lru_cache(maxsize=256)
def _occurrences(rule: str, start: datetime, zone: ZoneInfo, until_year: int) -> tuple[datetime, ...]:
    """The hand-offs of a recurrence rule, from its start, which is the first, to the end of a year."""
    horizon = datetime(until_year + 1, 1, 1)  # noqa: DTZ001 - local, as the rule is
    local = rrulestr(rule, dtstart=start).between(start, horizon, inc=True)
    return tuple(sorted({instant(start, zone), *(instant(moment, zone) for moment in local)}))
