"""Imported iCalendar schedules: each entry is a shift of whomever it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import recurring_ical_events
from icalendar import Event

from bridge.config import Config
from bridge.config.calendars import parse_calendar
from bridge.model.ids import PersonId
from bridge.policy.conditions import fold
from bridge.policy.times import Span, instant


@dataclass(frozen=True, slots=True)
class Entry:
    """One occurrence of an entry: when, what it is called, and whom it invites (mail addresses)."""

    span: Span
    title: str
    attendees: tuple[str, ...]


def calendar_spans(
    config: Config, calendar: str, zone: ZoneInfo, start: datetime, until: datetime
) -> Iterator[tuple[Span, PersonId]]:
    """The shifts in an imported calendar that touch `start` until `until`, the earliest first.

    Whole days and times without a zone are in `zone`. Entries that name nobody known are left out.
    """
    for entry in entries(config, calendar, zone, start, until):
        person = named_by(config, calendar, entry)
        if person is not None:
            yield entry.span, person


def entries(
    config: Config, calendar: str, zone: ZoneInfo, start: datetime, until: datetime
) -> Iterator[Entry]:
    """All entries of a calendar that touch `start` until `until`; none if the calendar was never fetched."""
    text = config.calendars.get(calendar)
    if text is None:
        return
    seen: set[Entry] = set()
    for year in range(start.year, until.year + 1):
        for entry in _of_year(text, zone, year):
            if entry.span.start < until and start < entry.span.until and entry not in seen:
                seen.add(entry)
                yield entry


def named_by(config: Config, calendar: str, entry: Entry) -> PersonId | None:
    """Whom an entry means: by the calendar's own list, else by a person's name or id among the words of its title."""
    listed = {fold(name): person for name, person in config.roster.calendars[calendar].people.items()}
    for said in (*entry.attendees, entry.title):
        if fold(said) in listed:
            return listed[fold(said)]
    title = f" {fold(entry.title)} "
    for person_id, person in config.roster.people.items():
        if f" {fold(person.name)} " in title or f" {fold(person_id)} " in title:
            return person_id
    return None


@lru_cache(maxsize=128)
def _of_year(text: str, zone: ZoneInfo, year: int) -> tuple[Entry, ...]:
    """The entries that touch a year. A day more on either side covers every zone's idea of the year."""
    first, last = date(year, 1, 1) - timedelta(days=1), date(year + 1, 1, 1) + timedelta(days=1)
    found = (
        _entry(event, zone) for event in recurring_ical_events.of(parse_calendar(text)).between(first, last)
    )
    return tuple(sorted((entry for entry in found if entry is not None), key=lambda entry: entry.span))


def _entry(event: Event, zone: ZoneInfo) -> Entry | None:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return None
    span = Span(_instant(event.start, zone), _instant(event.end, zone))
    attendees = event.get("ATTENDEE", [])
    names = attendees if isinstance(attendees, list) else [attendees]
    addresses = tuple(str(name).removeprefix("mailto:").removeprefix("MAILTO:") for name in names)
    return Entry(span, str(event.get("SUMMARY", "")), addresses) if span.start < span.until else None


def _instant(moment: date, zone: ZoneInfo) -> datetime:
    local = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    return instant(local, local.tzinfo or zone)
