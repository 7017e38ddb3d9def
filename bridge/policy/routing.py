"""Which role gets an event, how urgently, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.config import Config
from bridge.config.routing import FALLBACK, Then
from bridge.model.decision import Decision, Routing
from bridge.model.event import IntakeEvent
from bridge.model.ids import LadderId, RoleId, RuleId
from bridge.model.priority import Priority
from bridge.policy.conditions import Asked, matches


@dataclass(frozen=True, slots=True)
class Router:
    """The rules of a configuration, ready to be asked."""

    config: Config


def compile_rules(config: Config) -> Router:
    """Make the rules of a configuration ready to be asked."""
    return Router(config)


def route(router: Router, event: IntakeEvent, now: datetime, earlier: Sequence[datetime] = ()) -> Routing:
    """Decide about an event: the same inputs always get the same answer, and there always is one.

    `earlier` are the instants of the same caller's earlier events, for rules about repeated calls.
    """
    routing = router.config.routing
    asked = Asked(event, now, router.config, tuple(earlier))
    found: list[Decision] = []
    for index, rule in enumerate(routing.rules):
        if matches(rule.when, asked):
            found.append(_decision(router.config, routing.rule_id(index), rule.then, event))
            if not rule.continue_:
                break
    else:
        # Rules that only add leave the event itself still to be taken.
        found.append(_decision(router.config, FALLBACK, routing.fallback, event))
    return Routing(primary=found[-1], also=tuple(found[:-1]))


def _decision(config: Config, rule: RuleId, then: Then, event: IntakeEvent) -> Decision:
    routing = config.routing
    priority = then.priority or event.priority or routing.defaults.priority
    why = f'rule "{rule}" is true' if rule != FALLBACK else "no rule took it: fallback"
    return Decision(
        rule=rule,
        role=then.role,
        priority=priority,
        ladder=then.ladder or role_ladder(config, then.role, priority) or routing.defaults.ladder,
        template=then.template or routing.defaults.template,
        retention=then.retention or routing.defaults.retention,
        why=(why,),
        config_hash=config.hash,
    )


def role_ladder(config: Config, role: RoleId, priority: Priority) -> LadderId | None:
    """The ladder that a role chooses for a priority, if it does."""
    choice = config.roster.roles[role].ladder
    return choice.get(priority) if isinstance(choice, dict) else choice
