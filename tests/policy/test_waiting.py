from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from bridge.model.page import PageState
from bridge.model.priority import Priority
from bridge.policy.waiting import bundle_key, hold_until, joins
from tests.policy.hospital import NOON, decision, event, hospital, local

NIGHTS = {"hours": "22:00-07:00"}


def held(quiet: dict[str, Any], at: str, priority: Priority = Priority.ROUTINE) -> datetime | None:
    return hold_until(hospital(quiet_hours={"quiet": quiet}), "quiet", priority, local(at))


def test_quiet_hours_hold_a_routine_page_until_they_end() -> None:
    assert held(NIGHTS, "2026-11-24 23:00") == local("2026-11-25 07:00")


def test_outside_of_quiet_hours_a_page_rings_at_once() -> None:
    assert held(NIGHTS, "2026-11-24 07:00") is None


def test_quiet_hours_never_hold_stat() -> None:
    assert held(NIGHTS, "2026-11-24 23:00", Priority.STAT) is None


def test_quiet_hours_hold_only_what_they_say() -> None:
    assert held(NIGHTS, "2026-11-24 23:00", Priority.URGENT) is None


def test_quiet_hours_that_follow_each_other_are_one() -> None:
    weekend = {"hours": ["Fri 18:00-24:00", "Sat,Sun", "Mon 00:00-07:00"]}
    assert held(weekend, "2026-11-27 20:00") == local("2026-11-30 07:00")


def test_a_digest_holds_until_its_next_hour() -> None:
    digest = {"digest": ["08:00", "16:00"]}
    found = [held(digest, at) for at in ("2026-11-24 07:59", "2026-11-24 08:00", "2026-11-24 17:00")]
    assert found == [local("2026-11-24 08:00"), local("2026-11-24 16:00"), local("2026-11-25 08:00")]


def test_quiet_hours_with_a_digest_wait_for_it_only_while_quiet() -> None:
    quiet = NIGHTS | {"digest": "07:30"}
    found = [held(quiet, at) for at in ("2026-11-24 23:00", "2026-11-24 12:00")]
    assert found == [local("2026-11-25 07:30"), None]


def test_like_events_have_one_bundle_key() -> None:
    bundled = decision(bundle=timedelta(minutes=10))
    assert bundle_key(bundled, event("first")) == bundle_key(bundled, event("second"))
    assert bundle_key(bundled, event(channel="events")) == bundle_key(bundled, event())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (event(caller="+15550201"), event()),
    ],
)
def test_events_of_others_are_not_bundled(first: Any, second: Any) -> None:
    bundled = decision(bundle=timedelta(minutes=10))
    assert bundle_key(bundled, first) != bundle_key(bundled, second)


def test_an_urgent_event_does_not_disappear_in_a_routine_page() -> None:
    routine, urgent = (
        decision(bundle=timedelta(minutes=10), priority=priority)
        for priority in (Priority.ROUTINE, Priority.URGENT)
    )
    assert bundle_key(routine, event()) != bundle_key(urgent, event())


def test_without_a_caller_or_a_bundle_nothing_is_bundled() -> None:
    found = [bundle_key(decision(), event()), bundle_key(decision(bundle=timedelta(1)), event(caller=None))]
    assert found == [None, None]


@pytest.mark.parametrize(
    ("state", "minutes", "joined"),
    [
        (PageState.OPEN, 10, True),
        (PageState.ACCEPTED, 10, True),
        (PageState.OPEN, 11, False),
        (PageState.CLOSED, 1, False),
    ],
)
def test_an_event_joins_a_page_that_is_not_closed_within_the_bundles_time(
    state: PageState, minutes: int, *, joined: bool
) -> None:
    bundled = decision(bundle=timedelta(minutes=10))
    assert joins(bundled, state, NOON - timedelta(minutes=minutes), NOON) is joined
