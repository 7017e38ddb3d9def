"""Reading iCalendar text."""

from __future__ import annotations

from functools import lru_cache

from icalendar import Calendar


@lru_cache(maxsize=64)
def parse_calendar(text: str) -> Calendar:
    """Read an iCalendar stream (RFC 5545). Raises `ValueError` if it isn't one, or has a broken entry."""
    calendar = Calendar.from_ical(text)
    if not isinstance(calendar, Calendar):
        raise ValueError("holds something else than a calendar")  # noqa: TRY004 - the text is wrong, not its type
    broken = [str(error) for part in calendar.walk("VEVENT") for _, error in part.errors]
    if broken:
        raise ValueError(broken[0])
    return calendar
