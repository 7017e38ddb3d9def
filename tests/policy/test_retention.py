"""When content goes, and what a hold keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bridge.config.retention import OPERATIONS, After, RetentionClass, RetentionConfig
from bridge.model.ids import PageId, RetentionClassId, RoleId, RoomId
from bridge.policy.retention import Hold, HoldKind, Life, end_of, held_by

ARRIVED = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STANDARD, STAT = RetentionClassId("standard"), RetentionClassId("stat")
CONFIG = RetentionConfig(
    classes={
        STANDARD: RetentionClass(keep=30 * DAY),
        STAT: RetentionClass(keep=7 * DAY, after=After.ACCEPTED, at_latest=20 * DAY),
    }
)
LIFE = Life(
    PageId("p"),
    RoleId("cardiology"),
    STANDARD,
    ARRIVED,
    accepted=ARRIVED + HOUR,
    closed=ARRIVED + 2 * HOUR,
    rooms=frozenset({RoomId("!heart")}),
    caller=b"\x01\x02",
)


def life(**changes: object) -> Life:
    fields = {name: getattr(LIFE, name) for name in Life.__slots__}
    return Life(**{**fields, **changes})


def test_content_goes_when_its_time_after_closing_is_over() -> None:
    assert end_of(CONFIG, LIFE).at == ARRIVED + 2 * HOUR + 30 * DAY


def test_content_may_go_by_another_clock() -> None:
    end = end_of(CONFIG, life(retention=STAT))
    assert (end.at, end.why) == (ARRIVED + HOUR + 7 * DAY, "stat: 7 d after it was accepted")


def test_a_page_that_was_closed_without_being_accepted_has_been_taken_care_of() -> None:
    assert end_of(CONFIG, life(retention=STAT, accepted=None)).at == ARRIVED + 2 * HOUR + 7 * DAY


def test_what_nobody_ever_closes_goes_at_the_latest() -> None:
    end = end_of(CONFIG, life(closed=None))
    assert (end.at, end.why) == (
        ARRIVED + 90 * DAY,
        "standard: not closed, so 90 d after arrival at the latest",
    )


def test_nothing_lives_longer_than_at_the_latest() -> None:
    end = end_of(CONFIG, life(retention=STAT, accepted=ARRIVED + 19 * DAY))
    assert end.at == ARRIVED + 20 * DAY


def test_a_class_that_the_file_no_longer_knows_lives_as_long_as_the_longest() -> None:
    assert end_of(CONFIG, life(retention=RetentionClassId("gone"))).at == ARRIVED + 2 * HOUR + 30 * DAY


def test_what_the_bridge_says_has_a_lifetime_even_if_the_file_gives_none() -> None:
    assert end_of(CONFIG, life(retention=OPERATIONS)).at == ARRIVED + 30 * DAY


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (HoldKind.PAGE, "p"),
        (HoldKind.ROOM, "!heart"),
        (HoldKind.ROLE, "cardiology"),
        (HoldKind.NUMBER, "0102"),
        (HoldKind.RANGE, ""),
    ],
)
def test_a_hold_keeps_what_it_is_about(kind: HoldKind, value: str) -> None:
    hold = Hold("h", kind, value)
    assert held_by([hold], [LIFE]) is hold
    assert kind is HoldKind.RANGE or held_by([Hold("h", kind, "another")], [LIFE]) is None


def test_a_hold_may_be_narrowed_to_a_time() -> None:
    assert held_by([Hold("h", HoldKind.RANGE, start=ARRIVED, until=ARRIVED + HOUR)], [LIFE])
    assert held_by([Hold("h", HoldKind.RANGE, start=ARRIVED + HOUR)], [LIFE]) is None
    assert held_by([Hold("h", HoldKind.ROLE, "cardiology", until=ARRIVED)], [LIFE]) is None


def test_content_that_two_pages_share_is_held_if_one_of_them_is() -> None:
    other = life(page=PageId("q"), role=RoleId("neurology"))
    assert held_by([Hold("h", HoldKind.ROLE, "neurology")], [LIFE, other]) is not None


def test_a_hold_of_a_time_keeps_a_page_of_before_that_an_event_of_its_time_has_joined() -> None:
    hold = Hold("1", HoldKind.RANGE, start=ARRIVED + HOUR, until=ARRIVED + DAY)
    assert not hold.covers(LIFE)
    assert not hold.covers(life(latest=ARRIVED + HOUR / 2))
    assert hold.covers(life(latest=ARRIVED + 2 * HOUR))
    assert hold.covers(life(latest=ARRIVED + 2 * DAY))
