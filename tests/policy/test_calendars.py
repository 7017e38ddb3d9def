from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import recurring_ical_events
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from bridge.config import Config, with_calendars
from bridge.policy.schedule import double_cover, holders, shifts
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, NOON, local, scheduled


def calendar(*entries: str) -> str:
    events = "".join(
        f"BEGIN:VEVENT\r\nUID:{i}\r\nDTSTAMP:20260101T000000Z\r\n{entry}END:VEVENT\r\n"
        for i, entry in enumerate(entries)
    )
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test\r\n{events}END:VCALENDAR\r\n"


def entry(start: str, end: str, summary: str, *more: str) -> str:
    lines = (f"DTSTART{start}", f"DTEND{end}", f"SUMMARY:{summary}", *more)
    return "".join(f"{line}\r\n" for line in lines)


def imported(text: str, *below: dict[str, Any], **names: str) -> Config:
    calendars = {"duty": {"url": "https://calendar.example/duty.ics", "people": names}}
    config = scheduled({"calendar": "duty"}, *below, roster={"calendars": calendars})
    return with_calendars(config, {"duty": text})


def test_an_entry_is_a_shift_of_the_person_it_names() -> None:
    text = calendar(entry(":20261124T080000", ":20261124T180000", "On call: Dr. Ana Meyer"))
    config = imported(text, {"people": "ben"})
    found = [holders(config, CARDIOLOGY, local(at))[0] for at in ("2026-11-24 08:00", "2026-11-24 18:00")]
    assert found == [ANA, BEN]


def test_an_entry_may_name_its_person_by_an_attendee() -> None:
    text = calendar(
        entry(":20261124T080000", ":20261124T180000", "Duty", "ATTENDEE;CN=Ana:mailto:ana@hospital.example")
    )
    assert holders(imported(text, **{"ana@hospital.example": "ana"}), CARDIOLOGY, NOON) == (ANA,)


def test_a_whole_day_is_a_day_of_the_roles_zone() -> None:
    text = calendar(entry(";VALUE=DATE:20261124", ";VALUE=DATE:20261125", "ana"))
    found = shifts(imported(text), CARDIOLOGY, local("2026-11-23 12:00"), local("2026-11-25 12:00"))
    assert [shift.until for shift in found if not shift.holders] == [
        local("2026-11-24 00:00"),
        local("2026-11-25 12:00"),
    ]


def test_a_cancelled_entry_is_nobodys_shift() -> None:
    text = calendar(entry(":20261124T080000", ":20261124T180000", "ana", "STATUS:CANCELLED"))
    assert holders(imported(text), CARDIOLOGY, NOON) == ()


def test_a_moved_occurrence_is_where_it_was_moved() -> None:
    series = entry(":20261101T080000", ":20261101T180000", "ana", "RRULE:FREQ=DAILY")
    moved = "UID:0\r\nRECURRENCE-ID:20261124T080000\r\n" + entry(
        ":20261124T200000", ":20261124T220000", "ana"
    )
    text = calendar(series).replace(
        "END:VCALENDAR", f"BEGIN:VEVENT\r\nDTSTAMP:20260101T000000Z\r\n{moved}END:VEVENT\r\nEND:VCALENDAR"
    )
    config = imported(text)
    assert [holders(config, CARDIOLOGY, at) for at in (NOON, local("2026-11-24 21:00"))] == [(), (ANA,)]


def test_entries_that_overlap_are_double_cover() -> None:
    text = calendar(
        entry(":20261124T080000", ":20261124T180000", "ana"),
        entry(":20261124T170000", ":20261124T200000", "ben"),
    )
    found = double_cover(imported(text), CARDIOLOGY, NOON, NOON + timedelta(days=1))
    assert [(shift.start, shift.until) for shift in found] == [
        (local("2026-11-24 17:00"), local("2026-11-24 18:00"))
    ]


def test_a_calendar_that_was_never_fetched_names_nobody() -> None:
    config = imported(calendar(entry(":20261124T080000", ":20261124T180000", "ana")))
    assert holders(replace(config, calendars={}), CARDIOLOGY, NOON) == ()


def test_a_broken_calendar_never_replaces_the_last_good_copy() -> None:
    config = imported(calendar())
    with pytest.raises(ValueError, match=r"."):
        with_calendars(config, {"duty": "<html>not found</html>"})


zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


@settings(max_examples=40, deadline=None)
@given(
    zone=zones,
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)),  # noqa: DTZ001 - local
    people=st.integers(1, 3),
    weeks=st.integers(1, 2),
    day=st.integers(0, 400),
)
def test_a_rotation_is_what_the_same_rotation_is_in_a_calendar(
    zone: str, start: datetime, people: int, weeks: int, day: int
) -> None:
    """Each person of a rotation is a recurring entry; icalendar and recurring-ical-events expand them."""
    start = start.replace(microsecond=0, second=0)
    names = ["ana", "ben", "cleo"][:people]
    layer = {"people": names, "hand_off": {"every": f"{weeks} weeks", "from": start.isoformat(sep=" ")}}
    length = timedelta(weeks=weeks)
    entries = [
        entry(
            f";TZID={zone}:{start + length * turn:%Y%m%dT%H%M%S}",
            f";TZID={zone}:{start + length * (turn + 1):%Y%m%dT%H%M%S}",
            name,
            f"RRULE:FREQ=WEEKLY;INTERVAL={weeks * people}",
        )
        for turn, name in enumerate(names)
    ]
    at = start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) + timedelta(days=day, hours=3)
    found = recurring_ical_events.of(Calendar.from_ical(calendar(*entries))).between(
        at, at + timedelta(seconds=1)
    )
    assert [str(each["SUMMARY"]) for each in found] == list(
        holders(scheduled(layer, zone=zone), CARDIOLOGY, at)
    )
