"""Weekly hours, dates and holidays, as they are written: one language for rules and for schedules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from bridge.config.values import Section, one_or_more, parse_date

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"(\d{1,2}):(\d{2})"
_HOURS = re.compile(rf"(?:(?P<days>[a-z, -]+?)\s*)?(?:{_CLOCK}\s*-\s*{_CLOCK})?")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours that start on some weekdays (0 is Monday); `start` is the wall clock's time since midnight.

    A window past midnight belongs to the day on which it starts.
    """

    days: frozenset[int]
    start: timedelta
    length: timedelta


def parse_window(value: Any) -> Window:
    """Read `Mon-Fri 18:00-08:00`, `Sat,Sun`, `daily 09:00-17:00` or `22:00-06:00`. Raises `ValueError`."""
    if isinstance(value, Window):
        return value
    match = _HOURS.fullmatch(str(value).strip().lower())
    if not match or not match.group(0):
        raise ValueError('should be hours such as "Mon-Fri 18:00-08:00", "Sat,Sun" or "daily 09:00-17:00"')
    days = parse_weekdays(match["days"] or "daily")
    clock = match.groups()[1:]
    if clock[0] is None:
        return Window(days, timedelta(0), timedelta(days=1))
    start, until = (_clock(int(clock[i]), int(clock[i + 1])) for i in (0, 2))
    return Window(days, start, until - start if until > start else until - start + timedelta(days=1))


def parse_weekdays(text: str) -> frozenset[int]:
    """Read `mon-fri`, `sat,sun`, `fri-mon` or `daily`. Raises `ValueError`."""
    if text.strip() == "daily":
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        start, stop = _weekday(first), _weekday(last if dash else first)
        days |= {day % 7 for day in range(start, stop + 1 + (7 if stop < start else 0))}
    return frozenset(days)


def _weekday(word: str) -> int:
    if word[:3] not in WEEKDAYS:
        raise ValueError(f'has an unknown weekday "{word}"; known: Mon, Tue, Wed, Thu, Fri, Sat, Sun')
    return WEEKDAYS.index(word[:3])


def _clock(hour: int, minute: int) -> timedelta:
    moment = timedelta(hours=hour, minutes=minute)
    if minute > 59 or moment > timedelta(days=1):  # noqa: PLR2004 - an hour has 60 minutes
        raise ValueError(f"has {hour:02}:{minute:02}, which is no time of day; 00:00 to 24:00 are")
    return moment


def parse_clock(value: Any) -> timedelta:
    """Read a time of day such as `07:00`, as the time since midnight. Raises `ValueError`."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(_CLOCK, str(value).strip())
    if match is None:
        raise ValueError("should be a time of day such as 07:00")
    return _clock(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days from `first` to `last`, both included."""

    first: date
    last: date


def parse_dates(value: Any) -> DateRange:
    """Read `2026-12-24` or `2026-12-24..2026-12-26`. Raises `ValueError`."""
    if isinstance(value, DateRange):
        return value
    first, dots, last = str(value).partition("..")
    days = DateRange(parse_date(first), parse_date(last if dots else first))
    if days.last < days.first:
        raise ValueError("ends before it begins")
    return days


Hours = Annotated[tuple[Annotated[Window, BeforeValidator(parse_window)], ...], one_or_more]
Clocks = Annotated[tuple[Annotated[timedelta, BeforeValidator(parse_clock)], ...], one_or_more]
Dates = Annotated[tuple[Annotated[DateRange, BeforeValidator(parse_dates)], ...], one_or_more]


class Times(Section):
    """When something holds. Everything that is given must be true.

    Hours that pass midnight belong to the day on which they start, for `dates` and `holidays` too.
    """

    hours: Hours = ()
    dates: Dates = ()
    holidays: str | None = None  # a name under `holidays` in roles.yaml
