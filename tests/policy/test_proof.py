from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import Config
from bridge.model.event import EventKind
from bridge.model.priority import Priority
from bridge.policy.conditions import Asked, compile_when, true_of
from bridge.policy.proof import HORIZON, prove
from bridge.policy.routing import compile_rules, route
from bridge.policy.schedule import holders
from bridge.policy.shadows import shadowed_by
from tests.policy.hospital import NOON, event, hospital, role
from tests.policy.test_routing import WORDS, events, rule_lists

DAY = {"layers": [{"people": "ana", "only": {"hours": "08:00-18:00"}}]}
CARDIOLOGY = {"role": "cardiology"}


def problems(config: Config) -> list[str]:
    return [problem.message for problem in prove(config, NOON).problems]


def warnings(config: Config) -> list[str]:
    return [warning.message for warning in prove(config, NOON).warnings]


def with_rules(*whens: dict[str, Any], **more: Any) -> Config:
    rules = [{"id": f"r{index}", "when": when, "then": CARDIOLOGY} for index, when in enumerate(whens)]
    return hospital(rules=rules, **more)


# ----------------------------------------------------------------------------------------------- gaps


def test_a_sound_configuration_has_no_problems_and_no_warnings() -> None:
    assert (problems(with_rules({"called": "+15550100"})), warnings(hospital())) == ([], [])


def test_a_minute_without_anybody_is_named_with_its_role_and_rule() -> None:
    found = problems(with_rules({"called": "+15550100"}, roles={"cardiology": role(schedule=DAY)}))
    assert " ".join(found) == (
        'role "cardiology" has nobody from Tue 2026-11-24 18:00 until Wed 2026-11-25 08:00 (Europe/Berlin),'
        ' and rule "r0" (config/routing.yaml:1) can reach it then; gaps in all: 90'
    )


def test_a_gap_that_no_rule_can_reach_is_no_problem() -> None:
    config = with_rules(
        {"called": "+15550100", "hours": "09:00-17:00"}, roles={"cardiology": role(schedule=DAY)}
    )
    assert problems(config) == []


def test_a_gap_is_reached_only_in_the_minutes_of_the_rule() -> None:
    config = with_rules({"hours": "17:00-19:00"}, roles={"cardiology": role(schedule=DAY)})
    assert "from Tue 2026-11-24 18:00 until" in problems(config)[0]


def test_an_earlier_rule_that_takes_the_gap_makes_it_good() -> None:
    rules = [
        {"when": {"called": "+1555*", "not": {"hours": "08:00-18:00"}}, "then": {"role": "switchboard"}},
        {"when": {"called": "+15550100"}, "then": CARDIOLOGY},
    ]
    assert problems(hospital(rules=rules, roles={"cardiology": role(schedule=DAY)})) == []


def test_the_fallback_must_be_covered_too() -> None:
    found = problems(hospital(roles={"switchboard": role(schedule=DAY)}))
    assert 'rule "fallback"' in found[0]


def test_the_role_of_a_ladders_step_must_be_covered() -> None:
    steps = [{"after": "1 min", "role": "house"}, {"after": "1 min", "notify": "operations"}]
    config = with_rules(
        {"called": "+1"},
        roles={"house": role("House officer", schedule=DAY)},
        ladders={"standard": {"steps": steps}},
    )
    assert problems(config)[0].startswith('role "house" has nobody from')


def test_leave_that_nobody_stands_in_for_is_a_gap() -> None:
    leave = {"ana": {"leave": [{"from": "2026-12-24", "until": "2026-12-27", "reason": "x"}]}}
    assert "from Thu 2026-12-24 00:00 until Sun 2026-12-27 00:00" in problems(hospital(people=leave))[0]


def test_a_backup_fills_a_gap_and_is_told() -> None:
    config = with_rules({"called": "+1"}, roles={"cardiology": role(schedule=DAY, backup="ben")})
    assert problems(config) == []
    assert warnings(config)[0].startswith(
        'role "cardiology" is held by its backup alone from Tue 2026-11-24 18:00'
    )


def test_double_cover_is_told() -> None:
    layers = [
        {"people": p, "only": {"hours": hours}}
        for p, hours in (("ana", "07:00-19:00"), ("ben", "18:00-07:00"))
    ]
    found = warnings(hospital(roles={"cardiology": role(schedule={"layers": layers})}))
    assert found[0].startswith('role "cardiology" names ana and ben at once from Tue 2026-11-24 18:00')


# -------------------------------------------------------------------------------------------- shadows


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ({}, {"called": "+15550100"}),
        ({"called": "+1555*"}, {"called": "+15550100"}),
        ({"called": "+1555*"}, {"called": "+15550100..+15550199", "channel": "sms"}),
        ({"called": "+15550100..+15550199"}, {"called": ["+15550100", "+15550110..+15550120"]}),
        ({"channel": ["sms", "events"]}, {"channel": "sms", "words": "pain"}),
        ({"words": "pain"}, {"words": "chest pain"}),
        ({"language": "de"}, {"language": "de-AT"}),
        ({"attributes": {"digits": "1*"}}, {"attributes": {"digits": ["1", "12"], "clinic": "north"}}),
        ({"any": [{"channel": "sms"}, {"queue": "x"}]}, {"queue": "x"}),
        ({"channel": "sms"}, {"any": [{"channel": "sms", "queue": "x"}, {"channel": "sms", "words": "a"}]}),
        ({"not": {"channel": "events"}}, {"channel": "sms"}),
        ({"not": {"words": "calm"}}, {"not": {"words": "calm"}, "channel": "sms"}),
        ({"repeats": {"at_least": 2, "within": "1 h"}}, {"repeats": {"at_least": 3, "within": "10 min"}}),
        ({"hours": "08:00-20:00"}, {"hours": "09:00-10:00"}),
        ({"dates": "2026-12-01..2026-12-31"}, {"dates": "2026-12-24"}),
        ({"caller": "list:known"}, {"caller": "+1555"}),
    ],
)
def test_a_rule_that_another_takes_everything_from_is_refused(
    wide: dict[str, Any], narrow: dict[str, Any]
) -> None:
    found = problems(with_rules(wide, narrow, lists={"known": ["+1555", "+1556"]}))
    assert found == ['rule "r1" is never reached: "r0" (line 1) takes all that it is for']


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"called": "+15550100"}, {"called": "+1555*"}),
        ({"channel": "sms", "kind": "text"}, {"channel": "sms"}),
        ({"words": "chest pain"}, {"words": "pain"}),
        ({"attributes": {"digits": "1", "clinic": "north"}}, {"attributes": {"digits": "1"}}),
        ({"attributes": {"digits": "1"}}, {"channel": "sms"}),
        ({"hours": "09:00-10:00"}, {"hours": "09:00-10:01"}),
        ({"hours": "Mon-Fri 09:00-10:00"}, {"hours": "09:00-10:00"}),
        ({"dates": "2026-11-01..2027-06-01"}, {"called": "+15550100"}),
        ({"not": {"words": "calm"}}, {"channel": "sms"}),
        ({"repeats": {"at_least": 3, "within": "10 min"}}, {"repeats": {"at_least": 2, "within": "10 min"}}),
    ],
)
def test_a_rule_that_has_something_left_is_not_refused(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert problems(with_rules(first, second)) == []


def test_rules_that_shadow_another_together_are_both_named() -> None:
    found = problems(with_rules({"hours": "Mon-Fri"}, {"hours": "Sat,Sun"}, {"called": "+15550100"}))
    assert found == ['rule "r2" is never reached: "r0" (line 1) and "r1" (line 1) take all that it is for']


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ({"kind": ["text", "page"]}, {"kind": ["voicemail", "abandoned_call", "missed_call"]}, False),
        ({"kind": ["text", "page"]}, {"kind": ["voicemail", "abandoned_call"]}, True),
        ({"kind": "text"}, {"not": {"kind": "text"}}, False),
        ({"channel": "sms"}, {"channel": "events", "called": "+1555*"}, False),
        ({"channel": "sms"}, {"channel": "events", "called": "+1556*"}, True),
    ],
)
def test_rules_that_divide_all_of_another_by_kind_or_channel_shadow_it_together(
    first: dict[str, Any], second: dict[str, Any], left: object
) -> None:
    found = problems(with_rules(first, second, {"called": "+15550100"}))
    shadowed = [
        text for text in found if 'rule "r2" is never reached' in text and "take all that it is for" in text
    ]
    assert len(shadowed) == (0 if left else 1)


def test_a_rule_whose_time_is_over_is_told() -> None:
    config = with_rules({"dates": "2026-01-01..2026-01-05"}, {"dates": "2026-12-24..2026-12-26"})
    [told] = warnings(config)
    assert 'rule "r0" is never true again' in told


def test_a_number_without_its_country_code_is_told_and_a_short_code_is_none() -> None:
    config = with_rules(
        {"called": "555 010 0100"},
        {"any": [{"caller": "45678"}, {"caller": "list:lines"}]},
        lists={"lines": ["5550123456"]},
    )
    told = " ".join(warnings(config))
    assert told.count("has no country code") == 2
    assert "45678 has" not in told


def test_several_people_in_a_layer_without_a_hand_off_are_told() -> None:
    layers = {"layers": [{"people": ["ana", "ben"]}]}
    [told] = warnings(hospital(roles={"cardiology": role(schedule=layers)}))
    assert 'no "hand_off" says who when: it is always ana' in told


def test_a_rule_that_continues_shadows_nothing() -> None:
    rules = [{"then": CARDIOLOGY, "continue": True}, {"when": {"called": "+1"}, "then": CARDIOLOGY}]
    assert problems(hospital(rules=rules)) == []


def test_a_ladder_must_end_with_operations() -> None:
    found = problems(hospital(ladders={"standard": {"steps": [{"after": "1 min", "notify": "next"}]}}))
    assert found == ['ladder "standard" ends nowhere: its last step must be `notify: operations`']


# ----------------------------------------------------------------------------------------- properties

instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=100, deadline=None)
@given(rules=rule_lists, asked=st.lists(events, min_size=5, max_size=10), now=instants)
def test_a_rule_that_is_said_to_be_shadowed_never_decides(
    rules: list[dict[str, Any]], asked: list[Any], now: datetime
) -> None:
    config = hospital(rules=rules, lists={"lines": ["+15550100", "+1556*"]})
    router = compile_rules(config)
    shadowed = {config.routing.rule_id(n) for n in range(len(rules)) if shadowed_by(router, n, NOON)}
    for each in asked:
        routing = route(router, each, max(now, NOON))
        assert not shadowed & {decision.rule for decision in routing.all}


hours = st.sampled_from(["08:00-18:00", "Mon-Fri 18:00-08:00", "Sat,Sun", "20:00-09:00", "00:00-24:00"])


@settings(max_examples=40, deadline=None)
@given(
    layers=st.lists(hours, min_size=1, max_size=3),
    conditions=st.lists(st.one_of(st.none(), hours), min_size=1, max_size=3),
    minutes=st.lists(st.integers(0, 90 * 24 * 60 - 1), min_size=20, max_size=20),
)
def test_in_a_configuration_that_passes_no_event_at_any_minute_finds_a_role_without_anybody(
    layers: list[str], conditions: list[str | None], minutes: list[int]
) -> None:
    schedule = {"layers": [{"people": "ana", "only": {"hours": each}} for each in layers]}
    whens = [{"called": "+1555*"} | ({"hours": each} if each else {}) for each in conditions]
    config = with_rules(*whens, roles={"cardiology": role(schedule=schedule)})
    if any("has nobody" in problem for problem in problems(config)):
        return
    router = compile_rules(config)
    for minute in minutes:
        at = NOON + HORIZON * (minute / (90 * 24 * 60))
        assert holders(config, route(router, event(), at).primary.role, at)


def test_the_rules_of_the_properties_do_match_events() -> None:
    """So that the properties above are not about rules that never hold."""
    config = hospital(rules=[{"when": {"words": list(WORDS), "kind": "text"}, "then": CARDIOLOGY}])
    asked = Asked(event("a fall", kind=EventKind.TEXT, priority=Priority.STAT), NOON, config)
    assert true_of(compile_when(config.routing.rules[0].when, config), asked)


def test_a_ledger_that_is_kept_shorter_than_the_law_asks_is_told_of() -> None:
    [told] = warnings(hospital(nightbell={"ledger": {"keep": "5 years"}}))
    assert told == (
        '"keep" lets records of the ledger go after 1826 d; '
        "45 CFR 164.316(b)(2) asks six years (2192 d) of whom it binds"
    )
    assert warnings(hospital(nightbell={"ledger": {"keep": "6 years"}})) == []
