from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import Config
from bridge.model.ids import PersonId
from bridge.policy.schedule import (
    Change,
    double_cover,
    holders,
    next_hand_over,
    on_call,
    room_members,
    shift_at,
    shifts,
)
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, CLEO, DORA, NOON, local, scheduled

WEEKLY = {"people": ["ana", "ben", "cleo"], "hand_off": {"every": "week", "from": "2026-01-05 08:00"}}
NIGHTS = {"people": "ben", "only": {"hours": "Mon-Fri 18:00-08:00"}}
ALWAYS = {"people": "ana"}
CLINIC = {"holidays": {"clinic": {"country": "DE", "state": "BY", "days": {"12-24": "Heiligabend"}}}}


def holder(config: Config, at: str, **more: Any) -> PersonId | None:
    return next(iter(holders(config, CARDIOLOGY, local(at), **more)), None)


def test_a_rotation_moves_on_at_its_hand_off_and_not_before() -> None:
    config = scheduled(WEEKLY)
    assert [holder(config, at) for at in ("2026-01-12 07:59", "2026-01-12 08:00", "2026-01-26 08:00")] == [
        ANA,
        BEN,
        ANA,
    ]


def test_a_rotation_has_nobody_before_it_begins() -> None:
    assert holder(scheduled(WEEKLY), "2026-01-05 07:59") is None


def test_the_first_layer_that_has_somebody_holds_the_role() -> None:
    config = scheduled(NIGHTS, ALWAYS)
    assert [holder(config, at) for at in ("2026-11-24 17:59", "2026-11-24 18:00", "2026-11-25 08:00")] == [
        ANA,
        BEN,
        ANA,
    ]


def test_lower_layers_stand_behind_the_holder_and_then_the_other_members() -> None:
    config = scheduled(NIGHTS, ALWAYS, members=["ana", "ben", "cleo", "dora"])
    assert on_call(config, CARDIOLOGY, local("2026-11-24 20:00")) == (BEN, ANA, CLEO, DORA)


def test_members_follow_the_holder_in_turn() -> None:
    config = scheduled(WEEKLY, members=["ana", "ben", "cleo", "dora"])
    assert on_call(config, CARDIOLOGY, local("2026-01-12 08:00")) == (BEN, CLEO, DORA, ANA)


def test_an_override_goes_before_all_layers() -> None:
    override = {"from": "2026-12-24 18:00", "until": "2026-12-25 08:00", "holder": "dora"}
    config = scheduled(ALWAYS, overrides=[override])
    assert [holder(config, at) for at in ("2026-12-24 18:00", "2026-12-25 08:00")] == [DORA, ANA]


def test_a_change_from_the_room_goes_before_an_override() -> None:
    override = {"from": "2026-12-24", "until": "2026-12-25", "holder": "dora"}
    config = scheduled(ALWAYS, overrides=[override])
    change = Change(CARDIOLOGY, local("2026-12-24 02:00"), local("2026-12-24 03:00"), CLEO)
    found = [holder(config, at, changes=(change,)) for at in ("2026-12-24 02:30", "2026-12-24 03:00")]
    assert found == [CLEO, DORA]


def test_a_swap_exchanges_both_peoples_shifts() -> None:
    swap = {"from": "2026-01-05", "until": "2026-01-19 08:00", "people": ["ana", "ben"]}
    config = scheduled(WEEKLY, swaps=[swap])
    assert [holder(config, at) for at in ("2026-01-06", "2026-01-13", "2026-01-20")] == [BEN, ANA, CLEO]


def test_who_is_on_leave_holds_nothing_and_the_next_layer_does() -> None:
    leave = [{"from": "2026-11-24", "until": "2026-11-25"}]
    config = scheduled(ALWAYS, {"people": "ben"}, people={"ana": {"leave": leave}})
    assert on_call(config, CARDIOLOGY, NOON) == (BEN, CLEO, DORA)


def test_the_backup_holds_what_nobody_else_holds() -> None:
    config = scheduled(NIGHTS, backup="dora")
    found = shifts(config, CARDIOLOGY, local("2026-11-24 12:00"), local("2026-11-24 20:00"))
    assert [(shift.holders, shift.by_backup) for shift in found] == [((DORA,), True), ((BEN,), False)]


def test_holidays_are_a_layer_and_their_night_ends_the_morning_after() -> None:
    holidays = {"people": "cleo", "only": {"holidays": "clinic", "hours": "08:00-08:00"}}
    config = scheduled(holidays, ALWAYS, roster=CLINIC)
    moments = ("2026-12-24 07:59", "2026-12-24 08:00", "2026-12-27 07:59", "2026-12-27 08:00")
    assert [holder(config, at) for at in moments] == [ANA, CLEO, CLEO, ANA]


def test_except_takes_times_out_of_a_layer() -> None:
    config = scheduled(ALWAYS | {"except": {"holidays": "clinic"}}, {"people": "ben"}, roster=CLINIC)
    assert [holder(config, at) for at in ("2026-12-23 12:00", "2026-12-25 12:00")] == [ANA, BEN]


def test_a_layer_is_in_force_from_and_until_its_own_times() -> None:
    config = scheduled(ALWAYS | {"from": "2026-02-01", "until": "2026-03-01"}, {"people": "ben"})
    assert [holder(config, at) for at in ("2026-01-31 23:59", "2026-02-01", "2026-03-01")] == [BEN, ANA, BEN]


def test_a_rule_of_recurrence_hands_off_on_its_days() -> None:
    layer = {
        "people": ["ana", "ben"],
        "hand_off": {"every": "RRULE:FREQ=WEEKLY;BYDAY=MO,FR", "from": "2026-01-05 17:00"},
    }
    config = scheduled(layer)
    moments = ("2026-01-09 16:59", "2026-01-09 17:00", "2026-01-12 17:00", "2026-01-16 17:00")
    assert [holder(config, at) for at in moments] == [ANA, BEN, ANA, BEN]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_a_daily_hand_off_stays_at_its_hour_over_every_change_of_clocks(zone: str) -> None:
    layer = {"people": ["ana", "ben"], "hand_off": {"every": "day", "from": "2026-01-01 08:00"}}
    start = datetime(2026, 1, 2, tzinfo=UTC)
    found = shifts(scheduled(layer, zone=zone), CARDIOLOGY, start, start + timedelta(days=365))
    clocks = {f"{shift.start.astimezone(ZoneInfo(zone)):%H:%M}" for shift in found[1:]}
    assert clocks == {"08:00"}


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 11), ("2026-10-25", 13), ("2026-06-01", 12)])
def test_the_night_shift_is_as_long_as_the_night_is(day: str, hours: int) -> None:
    layer = {"people": ["ana", "ben"], "hand_off": {"every": "12 hours", "from": "2026-01-01 08:00"}}
    shift = shift_at(scheduled(layer), CARDIOLOGY, local(f"{day} 00:00"))
    before = local(f"{day} 00:00") - timedelta(hours=4)
    assert shift.until - before == timedelta(hours=hours)


def test_a_hand_off_at_an_hour_that_is_skipped_happens_when_the_clock_has_moved() -> None:
    layer = {"people": ["ana", "ben"], "hand_off": {"every": "day", "from": "2026-03-28 02:30"}}
    assert shift_at(scheduled(layer), CARDIOLOGY, local("2026-03-29 01:00")).until == local(
        "2026-03-29 03:30"
    )


def test_a_hand_off_at_an_hour_that_comes_twice_happens_the_first_time() -> None:
    layer = {"people": ["ana", "ben"], "hand_off": {"every": "day", "from": "2026-10-24 02:30"}}
    until = shift_at(scheduled(layer), CARDIOLOGY, local("2026-10-25 01:00")).until
    assert until == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_yearly_rule_on_leap_day_hands_off_only_in_leap_years() -> None:
    layer = {
        "people": ["ana", "ben"],
        "hand_off": {"every": "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "from": "2024-02-29 08:00"},
    }
    config = scheduled(layer)
    assert [holder(config, at) for at in ("2027-03-01", "2028-02-29 07:59", "2028-02-29 08:00")] == [
        ANA,
        ANA,
        BEN,
    ]


def test_the_next_hand_over_names_who_leaves_and_who_comes() -> None:
    found = next_hand_over(scheduled(WEEKLY), CARDIOLOGY, local("2026-01-06"))
    assert found is not None
    assert (found.at, found.outgoing, found.incoming) == (local("2026-01-12 08:00"), ANA, BEN)


def test_a_role_that_one_person_always_holds_is_never_handed_over() -> None:
    assert next_hand_over(scheduled(ALWAYS), CARDIOLOGY, NOON) is None


def test_layers_for_hours_that_meet_are_double_cover() -> None:
    config = scheduled(
        {"people": "ana", "only": {"hours": "07:00-19:00"}},
        {"people": "ben", "only": {"hours": "18:00-07:00"}},
    )
    found = double_cover(config, CARDIOLOGY, local("2026-11-24 00:00"), local("2026-11-25 00:00"))
    assert [(shift.start, shift.until, shift.holders) for shift in found] == [
        (local("2026-11-24 18:00"), local("2026-11-24 19:00"), (ANA, BEN))
    ]


def test_a_net_below_is_no_double_cover() -> None:
    assert double_cover(scheduled(NIGHTS, ALWAYS), CARDIOLOGY, NOON, NOON + timedelta(days=30)) == ()


def test_all_members_and_the_backup_are_in_the_room() -> None:
    config = scheduled(WEEKLY, members=["ana", "ben", "cleo"], backup="dora")
    assert room_members(config, CARDIOLOGY, NOON) == (ANA, BEN, CLEO, DORA)


@pytest.mark.parametrize(("at", "people"), [("2026-01-12 07:29", (ANA,)), ("2026-01-12 07:30", (ANA, BEN))])
def test_where_membership_follows_the_shift_the_next_one_joins_half_an_hour_before(
    at: str, people: tuple[PersonId, ...]
) -> None:
    config = scheduled(WEEKLY, room={"name": "Cardiology on call", "members": "on_duty"})
    assert room_members(config, CARDIOLOGY, local(at)) == people


# ----------------------------------------------------------------------------------------- properties

times = st.fixed_dictionaries(
    {},
    optional={
        "hours": st.sampled_from(["Mon-Fri 18:00-08:00", "Sat,Sun", "02:30-03:30", "20:00-20:00"]),
        "holidays": st.just("clinic"),
        "dates": st.just("2026-10-01..2026-11-01"),
    },
)
layers = st.fixed_dictionaries(
    {
        "people": st.lists(st.sampled_from([ANA, BEN, CLEO]), min_size=1, max_size=3),
        "hand_off": st.fixed_dictionaries(
            {
                "every": st.sampled_from(
                    ["day", "week", "2 weeks", "12 hours", "5 hours", "RRULE:FREQ=WEEKLY;BYDAY=TU,SA"]
                ),
                "from": st.sampled_from(["2026-01-05 08:00", "2026-10-20 02:30", "2026-03-01 00:00"]),
            }
        ),
    },
    optional={"only": times, "except": times},
)
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns"])
instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=60, deadline=None)
@given(st.lists(layers, min_size=1, max_size=3), zones, instants, st.integers(0, 20 * 24 * 60))
def test_shifts_say_at_every_minute_what_the_schedule_says_at_it(
    described: list[dict[str, Any]], zone: str, start: datetime, minute: int
) -> None:
    config = scheduled(*described, zone=zone, roster=CLINIC)
    at = start + timedelta(minutes=minute)
    found = shifts(config, CARDIOLOGY, start, start + timedelta(days=21))
    shift = next(shift for shift in found if shift.start <= at < shift.until)
    assert shift.holders == holders(config, CARDIOLOGY, at)


@settings(max_examples=60, deadline=None)
@given(st.lists(layers, min_size=1, max_size=3), zones, instants)
def test_shifts_follow_each_other_without_a_hole_or_an_overlap(
    described: list[dict[str, Any]], zone: str, start: datetime
) -> None:
    until = start + timedelta(days=21)
    found = shifts(scheduled(*described, zone=zone, roster=CLINIC), CARDIOLOGY, start, until)
    edges = [start, *(shift.until for shift in found)]
    assert [shift.start for shift in found] == edges[:-1]
    assert edges[-1] == until
    assert all(shift.start < shift.until for shift in found)


def test_a_shift_that_somebody_took_who_is_no_more_in_the_files_is_the_rosters_again() -> None:
    gone = Change(CARDIOLOGY, NOON, NOON + timedelta(hours=8), PersonId("zoe"))
    assert holders(scheduled({"people": "ana"}), CARDIOLOGY, NOON, [gone]) == (ANA,)
    assert PersonId("zoe") not in room_members(scheduled({"people": "ana"}), CARDIOLOGY, NOON, [gone])
