from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import Config
from bridge.config.routing import FALLBACK
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import RuleId
from bridge.model.priority import Priority
from bridge.policy.conditions import Asked, compile_when, true_of
from bridge.policy.routing import candidates, compile_rules, route
from tests.policy.hospital import NOON, event, hospital, local, role

NUMBERS = ("+15550100", "+15550101", "+15550110", "+15560000", "+15551")
WORDS = ("pain", "chest pain", "fall", "douleur")


def rule_of(of: IntakeEvent, **config: Any) -> RuleId:
    return route(compile_rules(hospital(**config)), of, NOON).primary.rule


def then(role_id: str = "cardiology", **more: Any) -> dict[str, Any]:
    return {"role": role_id} | more


def test_the_first_rule_that_is_true_decides() -> None:
    rules = [{"id": name, "when": {"called": "+1555*"}, "then": then()} for name in ("first", "second")]
    assert rule_of(event(), rules=rules) == "first"


def test_an_event_that_no_rule_takes_goes_to_the_fallback() -> None:
    decided = route(compile_rules(hospital()), event(called=None), NOON).primary
    assert (decided.rule, decided.role) == (FALLBACK, "switchboard")


def test_a_rule_that_continues_adds_to_the_one_that_decides() -> None:
    rules = [{"id": "also", "then": then("switchboard"), "continue": True}, {"id": "main", "then": then()}]
    routing = route(compile_rules(hospital(rules=rules)), event(), NOON)
    assert (routing.primary.rule, [decision.rule for decision in routing.also]) == ("main", ["also"])


def test_rules_that_only_add_leave_the_event_to_the_fallback() -> None:
    routing = route(
        compile_rules(hospital(rules=[{"id": "also", "then": then(), "continue": True}])), event(), NOON
    )
    assert (routing.primary.rule, [decision.rule for decision in routing.also]) == (FALLBACK, ["also"])


def test_a_rules_priority_goes_before_the_senders_and_that_before_the_default() -> None:
    def priority(said: Priority | None, **more: Any) -> Priority:
        router = compile_rules(hospital(rules=[{"then": then(**more)}]))
        return route(router, event(priority=said), NOON).primary.priority

    assert (priority(Priority.STAT, priority="routine"), priority(Priority.STAT), priority(None)) == (
        Priority.ROUTINE,
        Priority.STAT,
        Priority.URGENT,
    )


def test_a_ladder_is_the_rules_or_the_roles_for_the_priority_or_the_default() -> None:
    steps = {"steps": [{"after": "1 min", "notify": "operations"}]}
    config = hospital(
        roles={"cardiology": role(ladder={"stat": "fast"})},
        ladders={"standard": steps, "fast": steps, "own": steps},
        rules=[{"when": {"queue": "own"}, "then": then(ladder="own")}, {"then": then()}],
    )
    router = compile_rules(config)
    asked = [event(queue="own", priority=Priority.STAT), event(priority=Priority.STAT), event()]
    assert [route(router, each, NOON).primary.ladder for each in asked] == ["own", "fast", "standard"]


def test_the_defaults_may_have_a_ladder_for_each_priority() -> None:
    steps = {"steps": [{"after": "1 min", "notify": "operations"}]}
    names = {"stat": "fast", "urgent": "standard", "routine": "slow"}
    config = hospital(
        defaults={"ladder": names, "template": "plain", "retention": "standard"},
        ladders=dict.fromkeys(names.values(), steps),
    )
    found = [route(compile_rules(config), event(priority=each), NOON).primary.ladder for each in Priority]
    assert found == ["fast", "standard", "slow"]


def test_stat_goes_to_the_roles_own_stat_room() -> None:
    config = hospital(
        roles={"cardiology": role(stat_room="red")},
        rules=[{"then": then()}],
        roster={"rooms": {"red": {"name": "Cardiology STAT", "members": ["ana"]}}},
    )
    router = compile_rules(config)
    rooms = [route(router, event(priority=p), NOON).primary.room for p in (Priority.STAT, Priority.URGENT)]
    assert rooms == ["red", None]


def test_the_reasons_name_the_rule_and_its_conditions_and_nothing_of_the_event() -> None:
    rules = [{"id": "line", "when": {"called": "+15550100", "words": "pain"}, "then": then()}]
    decided = route(compile_rules(hospital(rules=rules)), event("pain"), NOON).primary
    assert decided.why == ('rule "line": called, words',)


def test_an_event_costs_as_much_as_the_rules_that_could_be_true_of_it() -> None:
    rules = [{"when": {"called": f"+1666{n:04}"}, "then": then()} for n in range(200)]
    config = hospital(rules=[*rules, {"when": {"called": "+1555*"}, "then": then()}])
    assert list(candidates(compile_rules(config), Asked(event(), NOON, config))) == [200]


def test_rules_that_share_a_word_are_looked_at_only_where_their_whole_phrase_is() -> None:
    rules = [{"when": {"words": f"code {n} chest pain"}, "then": then()} for n in range(200)]
    config = hospital(rules=[*rules, {"when": {"words": ["chest pain", "cold"]}, "then": then()}])
    asked = Asked(event("Code 7: chest pain, code 9; chest pain"), NOON, config)
    assert list(candidates(compile_rules(config), asked)) == [7, 9, 200]


# ----------------------------------------------------------------------------------------- properties

patterns = st.sampled_from(
    [*NUMBERS, "+1555*", "+15550*", "+15550100..+15550109", "+15550095..+15550112", "list:lines"]
)
times = st.sampled_from(["Mon-Fri 18:00-08:00", "Sat,Sun", "12:00-14:00"])
simple = {
    "channel": st.sampled_from(["sms", "events", ["sms", "events"]]),
    "kind": st.sampled_from([kind.value for kind in EventKind]),
    "called": st.one_of(patterns, st.lists(patterns, min_size=1, max_size=3)),
    "caller": patterns,
    "queue": st.sampled_from(["nights", "day*", "*"]),
    "words": st.one_of(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)),
    "priority": st.sampled_from([priority.value for priority in Priority]),
    "language": st.sampled_from(["de", "fr"]),
    "attributes": st.dictionaries(
        st.sampled_from(["digits", "clinic"]), st.sampled_from(["1", "1*", "north"])
    ),
    "hours": times,
    "repeats": st.just({"at_least": 2, "within": "10 min"}),
}
plain_whens = st.fixed_dictionaries({}, optional=simple)
whens = st.recursive(
    plain_whens,
    lambda inner: st.fixed_dictionaries(
        {},
        optional=simple
        | {
            "any": st.lists(inner, min_size=1, max_size=3),
            "all": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=6,
)
rule_lists = st.lists(
    st.fixed_dictionaries(
        {"when": whens, "then": st.sampled_from([then(), then("switchboard")]), "continue": st.booleans()}
    ),
    max_size=8,
)
events = st.builds(
    event,
    st.lists(st.sampled_from(["chest", "Pain!", "a fall", "Douleur", "since", ""]), max_size=5).map(" ".join),
    channel=st.sampled_from(["sms", "events"]),
    kind=st.sampled_from(list(EventKind)),
    called=st.sampled_from([*NUMBERS, None]),
    caller=st.sampled_from([*NUMBERS, None]),
    queue=st.sampled_from(["nights", "days", None]),
    language=st.sampled_from(["de-AT", "fr", None]),
    priority=st.sampled_from([*Priority, None]),
    digits=st.sampled_from(["1", "12", ""]),
)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def naive(config: Config, of: IntakeEvent, now: datetime, earlier: Sequence[datetime]) -> list[RuleId]:
    """What the rules say when they are simply read from the top."""
    asked = Asked(of, now, config, tuple(earlier))
    found: list[RuleId] = []
    for index, rule in enumerate(config.routing.rules):
        if true_of(compile_when(rule.when, config), asked):
            found.append(config.routing.rule_id(index))
            if not rule.continue_:
                return found
    return [*found, FALLBACK]


@settings(max_examples=150, deadline=None)
@given(rules=rule_lists, asked=st.lists(events, min_size=1, max_size=5), now=instants, before=st.booleans())
def test_the_index_finds_what_reading_from_the_top_finds(
    rules: list[dict[str, Any]], asked: list[IntakeEvent], now: datetime, *, before: bool
) -> None:
    config = hospital(rules=rules, lists={"lines": ["+15550100", "+1556*"]})
    router = compile_rules(config)
    earlier = (now,) if before else ()
    for each in asked:
        routing = route(router, each, now, earlier)
        assert [*(d.rule for d in routing.also), routing.primary.rule] == naive(config, each, now, earlier)


@settings(max_examples=50, deadline=None)
@given(rules=rule_lists, asked=events, now=instants)
def test_every_event_gets_one_decision_and_always_the_same(
    rules: list[dict[str, Any]], asked: IntakeEvent, now: datetime
) -> None:
    files = {"rules": rules, "lists": {"lines": ["+15550100"]}}
    first, second = (route(compile_rules(hospital(**files)), asked, now) for _ in range(2))
    assert first == second


def test_a_rule_for_the_night_is_true_in_the_second_two_oclock_hour_too() -> None:
    config = hospital(rules=[{"when": {"hours": "01:00-05:00"}, "then": then()}])
    twice = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 for the second time in Berlin
    assert local("2026-10-25 02:30") < twice
    assert route(compile_rules(config), event(), twice).primary.role == "cardiology"
