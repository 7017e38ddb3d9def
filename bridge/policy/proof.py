"""What must be true of a configuration before it may decide about pages: the proof that somebody is always found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.config import Config, Problem
from bridge.config.routing import FALLBACK, Pattern, When
from bridge.config.source import Path
from bridge.model.decision import StepKind
from bridge.model.ids import LadderId, RoleId
from bridge.model.priority import Priority
from bridge.policy.calendars import entries, named_by
from bridge.policy.routing import Router, compile_rules, role_ladder
from bridge.policy.schedule import Shift, double_cover, shifts
from bridge.policy.shadows import (
    earlier_rivals,
    moments_within,
    never_again,
    parts_of,
    possible_at,
    shadowed_by,
    takers_of,
)

HORIZON = timedelta(days=90)
ASKED_OF_LEDGERS = timedelta(days=2191)  # six years, which "6 years" in the file is as well
LONGEST_SHORT_CODE = 6  # digits: CTIA, Short Code Monitoring Handbook


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with a configuration: with a problem it must not be used, a warning is worth a look."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def prove(config: Config, now: datetime) -> Findings:
    """Look for everything through which a call could fall in the 90 days from `now`."""
    router = compile_rules(config)
    problems = [*_endless_ladders(config), *_unreachable_rules(router, now), *_gaps(router, now)]
    warnings = [
        *_on_backup_alone(config, now),
        *_doubles(config, now),
        *_calendars(config, now),
        *_over(config, now),
        *_national_numbers(config),
        *_always_the_first(config),
        *_short_ledger(config),
    ]
    return Findings(tuple(sorted(problems)), tuple(sorted(warnings)))


def _endless_ladders(config: Config) -> Iterator[Problem]:
    source = config.sources["routing.yaml"]
    for ladder_id, ladder in config.routing.ladders.items():
        if ladder.steps[-1].notify is not StepKind.OPERATIONS:
            message = f'ladder "{ladder_id}" ends nowhere: its last step must be `notify: operations`'
            yield source.problem(("ladders", ladder_id, "steps", len(ladder.steps) - 1), message)


def _unreachable_rules(router: Router, now: datetime) -> Iterator[Problem]:
    routing = router.config.routing
    source = router.config.sources["routing.yaml"]
    for number in range(len(routing.rules)):
        shadows = shadowed_by(router, number, now)
        if shadows:
            names = " and ".join(
                f'"{routing.rule_id(n)}" (line {source.at(("rules", n))[0]})' for n in shadows
            )
            verb = "takes" if len(shadows) == 1 else "take"
            message = f'rule "{routing.rule_id(number)}" is never reached: {names} {verb} all that it is for'
            yield source.problem(("rules", number), message)


def _gaps(router: Router, now: datetime) -> Iterator[Problem]:
    """Every role that some rule can reach at a moment when nobody holds it, with the first such moment."""
    config = router.config
    rules = config.routing.rules
    by_role: dict[RoleId, list[int]] = {}
    for number, then in enumerate((*(rule.then for rule in rules), config.routing.fallback)):
        for role in (then.role, *_roles_of_ladders(config, then.role, then.ladder)):
            by_role.setdefault(role, []).append(number)
    for role, numbers in by_role.items():
        gaps = [shift for shift in shifts(config, role, now, now + HORIZON) if not shift.holders]
        found = (
            sorted((at, number) for number in numbers for at in _reached_in(router, number, gaps, now))
            if gaps
            else []
        )
        if found:
            yield _gap(config, role, gaps, *found[0])


def _reached_in(router: Router, number: int, gaps: list[Shift], now: datetime) -> Iterator[datetime]:
    """The first moment in a gap at which a rule can decide about an event."""
    config = router.config
    rules = config.routing.rules
    when = rules[number].when if number < len(rules) else When()
    rivals = [rules[rival].when for rival in earlier_rivals(router, number, now)]
    for gap in gaps:
        for at in moments_within(gap.start, gap.until, [when, *rivals], config):
            if possible_at(when, config, at) and not takers_of(when, rivals, config, at):
                yield at
                return


def _gap(config: Config, role: RoleId, gaps: list[Shift], at: datetime, number: int) -> Problem:
    zone = config.roster.zone(role)
    gap = next(gap for gap in gaps if gap.start <= at < gap.until)
    until = f"{gap.until.astimezone(zone):%a %Y-%m-%d %H:%M}"
    rules = config.routing.rules
    rule = config.routing.rule_id(number) if number < len(rules) else FALLBACK
    path = ("rules", number) if number < len(rules) else ("fallback",)
    source = config.sources["routing.yaml"]
    others = f"; gaps in all: {len(gaps)}" if len(gaps) > 1 else ""
    return config.sources["roles.yaml"].problem(
        ("roles", role, "schedule"),
        f'role "{role}" has nobody from {at.astimezone(zone):%a %Y-%m-%d %H:%M} until {until} ({zone.key}),'
        f' and rule "{rule}" ({source.file}:{source.at(path)[0]}) can reach it then{others}',
    )


def _roles_of_ladders(config: Config, role: RoleId, ladder: LadderId | None) -> Iterator[RoleId]:
    ladders = {ladder} if ladder else {role_ladder(config, role, priority) for priority in Priority}
    for ladder_id in ladders:
        yield from (step.role for step in config.routing.ladders[ladder_id].steps if step.role is not None)


def _on_backup_alone(config: Config, now: datetime) -> Iterator[Problem]:
    for role in config.roster.roles:
        alone = [shift for shift in shifts(config, role, now, now + HORIZON) if shift.by_backup]
        if alone:
            message = f'role "{role}" is held by its backup alone from {_period(config, alone)}'
            yield config.sources["roles.yaml"].problem(("roles", role, "schedule"), message)


def _doubles(config: Config, now: datetime) -> Iterator[Problem]:
    for role in config.roster.roles:
        doubles = double_cover(config, role, now, now + HORIZON)
        if doubles:
            people = " and ".join(doubles[0].holders)
            message = f'role "{role}" names {people} at once from {_period(config, list(doubles))}; the first holds it'
            yield config.sources["roles.yaml"].problem(("roles", role, "schedule"), message)


def _over(config: Config, now: datetime) -> Iterator[Problem]:
    for number, rule in enumerate(config.routing.rules):
        if never_again(rule.when, config, now):
            message = (
                f'rule "{config.routing.rule_id(number)}" is never true again: its time is over, or is none'
            )
            yield config.sources["routing.yaml"].problem(("rules", number), message)


def _national_numbers(config: Config) -> Iterator[Problem]:
    """Numbers that look like a telephone's and have no country code: sources that can give E.164 give nothing else."""
    given: list[tuple[Path, Pattern]] = [
        (("lists", name), pattern) for name, patterns in config.routing.lists.items() for pattern in patterns
    ]
    for number, rule in enumerate(config.routing.rules):
        patterns = (each for part in parts_of(rule.when) for each in (*part.called, *part.caller))
        given += [(("rules", number, "when"), pattern) for pattern in patterns]
    for path, pattern in given:
        if pattern.low.isdigit() and len(pattern.low) > LONGEST_SHORT_CODE:
            message = (
                f"{pattern.low} has no country code: whatever can be read as a number comes as +1..., +49..."
            )
            yield config.sources["routing.yaml"].problem(path, message)


def _always_the_first(config: Config) -> Iterator[Problem]:
    for role_id, role in config.roster.roles.items():
        for number, layer in enumerate(role.schedule.layers):
            people = config.roster.persons(layer.people)
            if layer.hand_off is None and len(people) > 1:
                message = (
                    f'"people" names {len(people)} and no "hand_off" says who when: it is always {people[0]}'
                )
                path = ("roles", role_id, "schedule", "layers", number, "people")
                yield config.sources["roles.yaml"].problem(path, message)


def _short_ledger(config: Config) -> Iterator[Problem]:
    keep = config.nightbell.ledger.keep
    if keep < ASKED_OF_LEDGERS:
        message = (
            f'"keep" lets records of the ledger go after {keep.days} d; 45 CFR 164.316(b)(2) asks six years (2192 d) '
            "of whom it binds"
        )
        yield config.sources["nightbell.yaml"].problem(("ledger", "keep"), message)


def _period(config: Config, found: list[Shift]) -> str:
    zone = config.roster.zone(found[0].role)
    start, until = (edge.astimezone(zone) for edge in (found[0].start, found[0].until))
    others = f", and {len(found) - 1} times more" if len(found) > 1 else ""
    return f"{start:%a %Y-%m-%d %H:%M} until {until:%a %Y-%m-%d %H:%M}{others}"


def _calendars(config: Config, now: datetime) -> Iterator[Problem]:
    source = config.sources["roles.yaml"]
    for name in config.roster.calendars:
        if name not in config.calendars:
            message = f'calendar "{name}" has not been fetched yet; until then it names nobody'
            yield source.problem(("calendars", name), message)
        for entry in entries(config, name, config.roster.time_zone, now, now + HORIZON):
            if named_by(config, name, entry) is None:
                day = entry.span.start.astimezone(config.roster.time_zone)
                message = f'calendar "{name}" names nobody known in its entry of {day:%Y-%m-%d %H:%M}'
                yield source.problem(("calendars", name), message)
                break
