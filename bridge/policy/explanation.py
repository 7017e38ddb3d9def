"""Why an event goes where it goes, and what its page would do if nobody accepted it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.model.decision import Decision, Move, Routing
from bridge.model.event import IntakeEvent
from bridge.model.ids import RuleId
from bridge.policy.conditions import Asked
from bridge.policy.ladder import plan
from bridge.policy.routing import Router, candidates, route
from bridge.policy.schedule import Change


@dataclass(frozen=True, slots=True)
class Look:
    """One rule that was looked at: which of its conditions were true, and the first that was not."""

    rule: RuleId
    line: int
    true: tuple[str, ...]
    false: str | None


@dataclass(frozen=True, slots=True)
class Climb:
    """What a page of a decision does: each move, with the moment at which it is made."""

    decision: Decision
    moves: tuple[tuple[datetime, Move], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The rules that were looked at, how many were not, because nothing in the event calls for them, and the rest."""

    looks: tuple[Look, ...]
    passed_over: int
    routing: Routing
    climbs: tuple[Climb, ...]


def explain(
    router: Router,
    event: IntakeEvent,
    now: datetime,
    earlier: Sequence[datetime] = (),
    changes: Iterable[Change] = (),
) -> Explanation:
    """Explain what `route` decides about the same event at the same time."""
    changes = tuple(changes)
    asked = Asked(event, now, router.config, tuple(earlier))
    source = router.config.sources["routing.yaml"]
    looks: list[Look] = []
    reached = len(router.rules)
    for number in candidates(router, asked):
        rule = router.rules[number]
        tested = [(condition.name, condition.test(asked)) for condition in rule.conditions]
        false = next((name for name, is_true in tested if not is_true), None)
        true = tuple(name for name, is_true in tested if is_true)
        looks.append(Look(rule.id, source.at(("rules", number))[0], true, false))
        if false is None and not rule.continues:
            reached = number + 1
            break
    routing = route(router, event, now, earlier)
    climbs = tuple(
        Climb(
            decision,
            tuple(_timed(plan(router.config, decision, decision.hold_until or now, changes), decision, now)),
        )
        for decision in routing.all
    )
    return Explanation(tuple(looks), reached - len(looks), routing, climbs)


def _timed(moves: Iterable[Move], decision: Decision, now: datetime) -> Iterable[tuple[datetime, Move]]:
    at = decision.hold_until or now
    for move in moves:
        yield at, move
        at = move.next_due or at
