"""A bound on how often each source may come."""

from __future__ import annotations

from bridge.channels import rate
from bridge.channels.rate import Rate


def test_a_minutes_worth_may_come_at_once_and_then_what_a_minute_brings() -> None:
    now = 100.0
    bound = Rate(60, lambda: now)
    assert [bound.wait("a") for _ in range(61)] == [0.0] * 60 + [1.0]
    now += 0.5
    assert bound.wait("a") == 0.5
    now += 0.5
    assert bound.wait("a") == 0.0
    assert bound.wait("a") == 1.0
    now += 3600
    assert [bound.wait("a") for _ in range(61)] == [0.0] * 60 + [1.0]


def test_one_source_takes_nothing_from_another() -> None:
    bound = Rate(1, lambda: 100.0)
    assert [bound.wait(source) for source in "aabb"] == [0.0, 60.0, 0.0, 60.0]


def test_no_more_sources_are_remembered_than_the_bound() -> None:
    bound = Rate(1, lambda: 100.0)
    for number in range(rate.MAX_SOURCES + 5):
        bound.wait(str(number))
    assert len(bound.levels) == rate.MAX_SOURCES
    assert bound.wait(str(rate.MAX_SOURCES + 4)) > 0
