from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import Config
from bridge.model.decision import Move, StepKind
from bridge.model.ids import PersonId, RoleId
from bridge.policy.ladder import climb, latest, open_page, plan
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, CLEO, DORA, NOON, decision, hospital, page, role

MINUTE = timedelta(minutes=1)


def ladder(*steps: dict[str, Any], repeat: int = 0, **changes: Any) -> Config:
    """A hospital with this ladder, each of its steps after a minute."""
    timed = [{"after": "1 min"} | step for step in steps]
    ladders = {"standard": {"steps": timed, "repeat": repeat}}
    return hospital(ladders=ladders, roles={"cardiology": role(**changes)})


def step(notify: str) -> dict[str, Any]:
    return {"notify": notify}


OPERATIONS = step("operations")


def notified(config: Config) -> list[tuple[PersonId, ...]]:
    return [move.notify for move in plan(config, decision(), NOON)]


def test_a_new_page_notifies_whoever_holds_its_role() -> None:
    move = open_page(ladder(OPERATIONS), decision(), NOON)
    assert (move.step, move.notify, move.next_due) == (0, (ANA,), NOON + MINUTE)


def test_a_decision_for_a_person_notifies_them_first() -> None:
    assert open_page(ladder(OPERATIONS), decision(person=CLEO), NOON).notify == (CLEO,)


def test_a_holder_who_cannot_be_reached_is_passed_over_at_once() -> None:
    config = ladder(step("again"), step("next"), OPERATIONS)
    move = open_page(config, decision(), NOON, lambda _role, person: person != ANA)
    assert (move.step, move.notify, move.skipped) == (2, (BEN,), ("0 on call", "1 renotify"))


def test_nobody_reachable_goes_straight_to_operations() -> None:
    move = open_page(ladder(step("everyone"), OPERATIONS), decision(), NOON, lambda _role, _person: False)
    assert (move.kind, move.notify) == (StepKind.OPERATIONS, ())


def test_next_goes_through_the_members_in_order() -> None:
    assert notified(ladder(step("next"), step("next"), OPERATIONS)) == [(ANA,), (BEN,), (CLEO,), ()]


def test_again_notifies_the_latest_again() -> None:
    assert notified(ladder(step("next"), step("again"), OPERATIONS)) == [(ANA,), (BEN,), (BEN,), ()]


def test_again_after_everyone_is_everyone() -> None:
    found = notified(ladder(step("everyone"), step("again"), OPERATIONS))
    assert set(found[2]) == {ANA, BEN, CLEO, DORA}


def test_the_backup_is_asked_by_its_step() -> None:
    assert notified(ladder(step("backup"), OPERATIONS, backup="dora")) == [(ANA,), (DORA,), ()]


def test_a_step_without_anybody_is_not_waited_for() -> None:
    moves = list(plan(ladder(step("backup"), OPERATIONS), decision(), NOON))
    assert [(move.step, move.skipped) for move in moves] == [(0, ()), (2, ("1 backup",))]


def test_another_role_is_asked_in_its_own_room() -> None:
    move = list(plan(ladder({"role": "switchboard"}, OPERATIONS), decision(), NOON))[1]
    assert (move.role, move.notify) == ("switchboard", (ANA,))


def test_next_finds_nobody_when_everybody_was_asked() -> None:
    config = ladder(step("next"), step("next"), OPERATIONS, members=["ana", "ben"])
    assert notified(config) == [(ANA,), (BEN,), ()]


def test_a_repeated_ladder_goes_round_again() -> None:
    config = ladder(step("next"), step("next"), OPERATIONS, repeat=1, members=["ana", "ben"])
    assert notified(config) == [(ANA,), (BEN,), (), (ANA,), (BEN,), ()]


def test_who_is_on_leave_is_asked_by_no_step() -> None:
    leave = {"ben": {"leave": [{"from": "2026-11-24", "until": "2026-11-25"}]}}
    steps = [{"after": "1 min", "notify": notify} for notify in ("next", "everyone", "operations")]
    config = hospital(people=leave, ladders={"standard": {"steps": steps}})
    assert notified(config) == [(ANA,), (CLEO,), (ANA, CLEO, DORA), ()]


def test_a_late_step_says_how_late_it_is_and_waits_its_whole_time_after() -> None:
    move = climb(ladder(step("next"), OPERATIONS), page(), NOON + 10 * MINUTE, due=NOON + MINUTE)
    assert (move.late_by, move.next_due) == (9 * MINUTE, NOON + 11 * MINUTE)


def test_the_end_of_a_ladder_notifies_nobody_and_sets_no_timer() -> None:
    move = climb(ladder(OPERATIONS), page(step=1), NOON)
    assert (move.kind, move.notify, move.next_due) == (None, (), None)


def test_the_latest_notified_stand_last() -> None:
    assert latest((ANA, BEN, CLEO), (ANA,)) == (BEN, CLEO, ANA)


def test_decliners_are_unreachable_and_the_page_moves_on() -> None:
    config = ladder(step("again"), step("next"), OPERATIONS)
    move = climb(config, page(), NOON, lambda _role, person: person != ANA)
    assert (move.notify, move.skipped) == ((BEN,), ("1 renotify",))


# ----------------------------------------------------------------------------------------- properties

steps = st.lists(
    st.sampled_from(
        [step(name) for name in ("again", "next", "backup", "everyone")] + [{"role": "switchboard"}]
    ),
    max_size=6,
)
someone = st.sets(st.sampled_from([ANA, BEN, CLEO, DORA]))


def climbed(config: Config, reached: set[PersonId]) -> list[Move]:
    """All moves of a page, as the engine makes them."""

    def reachable(_role: RoleId, person: PersonId) -> bool:
        return person in reached

    moves = [open_page(config, decision(), NOON, reachable)]
    current = page(moves[0])
    while (due := moves[-1].next_due) is not None:
        moves.append(climb(config, current, due, reachable, due=due))
        current = page(moves[-1], notified=latest(current.notified, moves[-1].notify))
    return moves


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 2), st.sampled_from([None, "dora"]), someone)
def test_a_page_only_climbs_and_ends_with_operations(
    between: list[dict[str, Any]], repeat: int, backup: str | None, reached: set[PersonId]
) -> None:
    moves = climbed(ladder(*between, OPERATIONS, repeat=repeat, backup=backup), reached)
    numbers = [move.step for move in moves]
    assert numbers == sorted(set(numbers))
    assert moves[-1].kind is StepKind.OPERATIONS
    assert {person for move in moves for person in move.notify} <= reached


@settings(max_examples=60, deadline=None)
@given(steps, someone)
def test_in_one_round_next_asks_only_people_who_were_not_asked(
    between: list[dict[str, Any]], reached: set[PersonId]
) -> None:
    moves = climbed(ladder(*between, OPERATIONS, backup="dora"), reached)
    for index, move in enumerate(moves):
        if move.kind is StepKind.NEXT:
            assert not {person for earlier in moves[:index] for person in earlier.notify} & set(move.notify)


@pytest.mark.parametrize("reached", [{ANA, BEN, CLEO, DORA}, {CLEO}])
def test_everyone_who_can_be_reached_is_reached_by_everyone(reached: set[PersonId]) -> None:
    moves = climbed(ladder(step("everyone"), OPERATIONS), reached)
    assert set(moves[-2].notify) == reached
    assert moves[0].role == CARDIOLOGY
