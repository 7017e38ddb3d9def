from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.routing import parse_number
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.priority import Priority
from bridge.policy.conditions import blocks, compile_patterns, fold
from bridge.policy.routing import compile_rules, route
from tests.policy.hospital import NOON, event, hospital, local

LISTS = {"cardiology-lines": ["+15550100", "+1555011*"]}


def is_taken(when: dict[str, Any], of: IntakeEvent, at: str | None = None, **more: Any) -> bool:
    """Whether a rule with these conditions takes an event."""
    holidays = {"clinic": {"country": "DE", "state": "BY", "days": {"12-24": "Heiligabend"}}}
    config = hospital(
        rules=[{"id": "rule", "when": when, "then": {"role": "cardiology"}}],
        lists=LISTS,
        roster={"holidays": holidays},
    )
    return route(compile_rules(config), of, local(at) if at else NOON, **more).primary.rule == "rule"


@pytest.mark.parametrize(
    ("when", "matching", "other"),
    [
        ({"channel": "sms"}, event(), event(channel="events")),
        ({"kind": ["voicemail", "text"]}, event(), event(kind=EventKind.PAGE)),
        ({"called": "+1 (555) 01-00"}, event(called="+15550100"), event(called="+15550101")),
        ({"called": "+1555*"}, event(called="+15559"), event(called="+1556")),
        ({"called": "+15550100..+15550199"}, event(called="+15550150"), event(called="+15550200")),
        ({"called": "+15550100..+15550199"}, event(called="+15550199"), event(called="+155501500")),
        ({"called": "list:cardiology-lines"}, event(called="+15550112"), event(called="+15550120")),
        ({"caller": "+15550200"}, event(), event(caller=None)),
        ({"recipient": "Cardio*"}, event(recipient="CARDIOLOGY"), event(recipient="neuro")),
        ({"queue": "nights"}, event(queue="Nights"), event()),
        ({"language": "de"}, event(language="de-AT"), event(language="den")),
        ({"priority": "stat"}, event(priority=Priority.STAT), event()),
        ({"words": "chest pain"}, event("CHEST-pain!!"), event("chestpain")),
        ({"words": "douleur"}, event("Douleur à la poitrine"), event("douleurs")),
        ({"words": ["a", "poitrine"]}, event("douleur poitrine"), event("poitrines")),
        ({"attributes": {"digits": "2*"}}, event(digits="21#"), event(digits="12")),
        ({"attributes": {"clinic": ["north", "South"]}}, event(clinic="SOUTH"), event()),
        ({"attributes": {"a": "1", "b": "1"}}, event(a="1", b="1"), event(a="1", b="2")),
        ({"any": [{"queue": "x"}, {"words": "pain"}]}, event("pain"), event("calm")),
        ({"all": [{"channel": "sms"}, {"words": "pain"}]}, event("pain"), event("pain", channel="events")),
        ({"not": {"channel": "events"}}, event(), event(channel="events")),
        ({"not": {"channel": "sms", "words": "calm"}}, event("pain"), event("calm")),
    ],
)
def test_a_condition_is_true_of_what_it_says_and_of_nothing_else(
    when: dict[str, Any], matching: IntakeEvent, other: IntakeEvent
) -> None:
    assert (is_taken(when, matching), is_taken(when, other)) == (True, False)


@pytest.mark.parametrize(
    ("when", "inside", "outside"),
    [
        ({"hours": "Mon-Fri 18:00-08:00"}, "2026-11-24 18:00", "2026-11-24 17:59"),
        ({"hours": "Mon-Fri 18:00-08:00"}, "2026-11-28 07:59", "2026-11-28 08:00"),
        ({"hours": "Sat,Sun"}, "2026-11-28 00:00", "2026-11-27 23:59"),
        ({"hours": ["12:00-13:00", "20:00-21:00"]}, "2026-11-24 20:30", "2026-11-24 19:30"),
        ({"dates": "2026-12-24..2026-12-26"}, "2026-12-26 23:59", "2026-12-27 00:00"),
        ({"holidays": "clinic"}, "2026-12-25 10:00", "2026-12-28 10:00"),
        ({"holidays": "clinic"}, "2027-12-24 10:00", "2027-12-23 10:00"),
        ({"holidays": "clinic", "hours": "18:00-08:00"}, "2026-12-27 07:00", "2026-12-28 07:00"),
        ({"hours": "18:00-19:00", "time_zone": "America/New_York"}, "2026-11-25 00:30", "2026-11-24 18:30"),
    ],
)
def test_a_time_is_on_the_wall_of_its_zone(when: dict[str, Any], inside: str, outside: str) -> None:
    assert (is_taken(when, event(), inside), is_taken(when, event(), outside)) == (True, False)


def test_the_third_call_in_ten_minutes_is_counted_with_the_two_before() -> None:
    when = {"repeats": {"at_least": 3, "within": "10 min"}}
    two, old = [NOON - timedelta(minutes=m) for m in (2, 5)], [NOON - timedelta(minutes=m) for m in (2, 10)]
    assert (is_taken(when, event(), earlier=two), is_taken(when, event(), earlier=old)) == (True, False)


@given(st.integers(0, 9_999), st.integers(0, 9_999))
def test_blocks_are_exactly_the_numbers_of_a_range(one: int, other: int) -> None:
    low, high = sorted((f"+{one:04}", f"+{other:04}"))
    prefixes = blocks(low, high)
    inside = [n for n in range(10_000) if f"+{n:04}".startswith(prefixes)]
    assert inside == list(range(int(low), int(high) + 1))


@given(
    st.lists(st.from_regex(r"\+1[0-9]{4}(\*|\.\.\+1[0-9]{4})?", fullmatch=True), max_size=4),
    st.integers(0, 9_999),
)
def test_a_set_of_patterns_is_true_where_one_of_them_is(written: list[str], number: int) -> None:
    ordered = ["..".join(sorted(text.split(".."))) for text in written]
    patterns = tuple(parse_number(text) for text in ordered)
    value = f"+1{number:04}"
    assert compile_patterns(patterns)(value) == any(compile_patterns((one,))(value) for one in patterns)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
