"""Names in one place that must exist in another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bridge.config.ladders import LadderChoice
from bridge.config.nightbell import NightbellConfig
from bridge.config.problems import Problem, did_you_mean
from bridge.config.retention import RetentionConfig
from bridge.config.roster import Roster, Schedule
from bridge.config.routing import Pattern, RoutingConfig, Then, When
from bridge.config.source import Path, Source


@dataclass(frozen=True, slots=True)
class Names:
    """What may be referred to, by kind."""

    known: Mapping[str, frozenset[str]]
    source: Source

    def check(self, kind: str, path: Path, *names: str | None) -> Iterator[Problem]:
        """A problem for each name of a kind that does not exist."""
        for name in names:
            if name is not None and name not in self.known[kind]:
                message = f'{kind} "{name}" does not exist{did_you_mean(name, self.known[kind])}'
                yield self.source.problem(self._exactly(path, name), message)

    def _exactly(self, path: Path, name: str) -> Path:
        """The place of a name inside the list at `path`, if it is one."""
        value = self.source.value
        for part in path:
            value = value[part] if part in value or isinstance(part, int) else None
            if value is None:
                return path
        return (*path, value.index(name)) if isinstance(value, list) and name in value else path


def unknown_names(
    nightbell: NightbellConfig,
    roster: Roster,
    routing: RoutingConfig,
    retention: RetentionConfig,
    sources: Mapping[str, Source],
) -> Iterator[Problem]:
    """Every reference to something that does not exist, and every name that is given twice."""
    known: dict[str, Iterable[str]] = {
        "channel": nightbell.channels,
        "person": roster.people,
        "person or group": {*roster.people, *roster.groups},
        "role": roster.roles,
        "room": roster.rooms,
        "holiday calendar": roster.holidays,
        "calendar": roster.calendars,
        "ladder": routing.ladders,
        "template": routing.templates,
        "retention class": retention.classes,
        "quiet hours": routing.quiet_hours,
        "list": routing.lists,
    }
    names = {kind: frozenset(words) for kind, words in known.items()}
    of_nightbell = Names(names, sources["nightbell.yaml"])
    yield from of_nightbell.check("room", ("ledger", "room"), nightbell.ledger.room)
    yield from _in_roster(roster, Names(names, sources["roles.yaml"]))
    yield from _shared_accounts(roster, sources["roles.yaml"])
    yield from _outsiders(roster, routing, sources)
    yield from _in_routing(routing, Names(names, sources["routing.yaml"]))


def outlived(
    nightbell: NightbellConfig, retention: RetentionConfig, sources: Mapping[str, Source]
) -> Iterator[Problem]:
    """A ledger that goes before what it tells of: nobody could account for content that is still there."""
    name, kind = max(retention.classes.items(), key=lambda each: each[1].longest)
    if nightbell.ledger.keep < kind.longest:
        message = (
            f'"keep" of the ledger is shorter than content of class "{name}" may live: {kind.longest.days} d'
        )
        yield sources["nightbell.yaml"].problem(("ledger", "keep"), message)


def _shared_accounts(roster: Roster, source: Source) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for person_id, person in roster.people.items():
        owner = owners.setdefault(person.matrix, person_id)
        if owner != person_id:
            message = f'{person.matrix} is the account of "{owner}" already'
            yield source.problem(("people", person_id, "matrix"), message)


def _outsiders(roster: Roster, routing: RoutingConfig, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """People who would be paged for a role in whose room they are not."""
    rooms = {role_id: {*roster.persons(role.members), role.backup} for role_id, role in roster.roles.items()}
    for role_id, role in roster.roles.items():
        here: Path = ("roles", role_id, "schedule")
        named = [
            *(
                ((*here, "layers", i), roster.persons(layer.people))
                for i, layer in enumerate(role.schedule.layers)
            ),
            *(((*here, "overrides", i), (each.holder,)) for i, each in enumerate(role.schedule.overrides)),
            *(((*here, "swaps", i), each.people) for i, each in enumerate(role.schedule.swaps)),
        ]
        for path, people in named:
            for person in people:
                if person in roster.people and person not in rooms[role_id]:
                    message = f'"{person}" is no member of role "{role_id}"; add them to its members'
                    yield sources["roles.yaml"].problem(path, message)
    for index, then in enumerate((*(rule.then for rule in routing.rules), routing.fallback)):
        if then.person in roster.people and then.role in rooms and then.person not in rooms[then.role]:
            path = (
                ("rules", index, "then", "person") if index < len(routing.rules) else ("fallback", "person")
            )
            message = f'"{then.person}" is no member of role "{then.role}"; add them to its members'
            yield sources["routing.yaml"].problem(path, message)


def _in_roster(roster: Roster, names: Names) -> Iterator[Problem]:
    for group, people in roster.groups.items():
        yield from names.check("person", ("groups", group), *people)
    for room_id, room in roster.rooms.items():
        yield from names.check("person or group", ("rooms", room_id, "members"), *room.members)
    for calendar, calendar_config in roster.calendars.items():
        for title, person in calendar_config.people.items():
            yield from names.check("person", ("calendars", calendar, "people", title), person)
    for role_id, role in roster.roles.items():
        here: Path = ("roles", role_id)
        yield from names.check("person or group", (*here, "members"), *role.members)
        yield from names.check("person", (*here, "backup"), role.backup)
        yield from names.check("room", (*here, "stat_room"), role.stat_room)
        yield from _in_choice(role.ladder, (*here, "ladder"), names)
        yield from _in_schedule(role.schedule, (*here, "schedule"), names)


def _in_choice(choice: LadderChoice | None, here: Path, names: Names) -> Iterator[Problem]:
    if isinstance(choice, dict):
        for priority, ladder in choice.items():
            yield from names.check("ladder", (*here, priority), ladder)
    else:
        yield from names.check("ladder", here, choice)


def _in_schedule(schedule: Schedule, here: Path, names: Names) -> Iterator[Problem]:
    for index, layer in enumerate(schedule.layers):
        place = (*here, "layers", index)
        yield from names.check("person or group", (*place, "people"), *layer.people)
        yield from names.check("calendar", (*place, "calendar"), layer.calendar)
        for key, times in (("only", layer.only), ("except", layer.except_)):
            holidays = times.holidays if times else None
            yield from names.check("holiday calendar", (*place, key, "holidays"), holidays)
    for index, override in enumerate(schedule.overrides):
        yield from names.check("person", (*here, "overrides", index, "holder"), override.holder)
    for index, swap in enumerate(schedule.swaps):
        yield from names.check("person", (*here, "swaps", index, "people"), *swap.people)


def _in_routing(routing: RoutingConfig, names: Names) -> Iterator[Problem]:
    yield from _in_choice(routing.defaults.ladder, ("defaults", "ladder"), names)
    yield from names.check("template", ("defaults", "template"), routing.defaults.template)
    yield from names.check("retention class", ("defaults", "retention"), routing.defaults.retention)
    yield from names.check("quiet hours", ("defaults", "quiet_hours"), routing.defaults.quiet_hours)
    yield from _in_then(routing.fallback, ("fallback",), names)
    seen: dict[str, int] = {}
    for index, rule in enumerate(routing.rules):
        here: Path = ("rules", index)
        yield from _in_then(rule.then, (*here, "then"), names)
        yield from _in_when(rule.when, (*here, "when"), names)
        rule_id = routing.rule_id(index)
        if rule_id in seen or rule_id == "fallback":
            yield names.source.problem((*here, "id"), f'another rule is already called "{rule_id}"')
        seen[rule_id] = index
    for ladder_id, ladder in routing.ladders.items():
        for index, step in enumerate(ladder.steps):
            yield from names.check("role", ("ladders", ladder_id, "steps", index, "role"), step.role)


def _in_then(then: Then, here: Path, names: Names) -> Iterator[Problem]:
    yield from names.check("role", (*here, "role"), then.role)
    yield from names.check("person", (*here, "person"), then.person)
    yield from names.check("room", (*here, "room"), then.room)
    yield from names.check("ladder", (*here, "ladder"), then.ladder)
    yield from names.check("template", (*here, "template"), then.template)
    yield from names.check("retention class", (*here, "retention"), then.retention)
    yield from names.check("quiet hours", (*here, "quiet_hours"), then.quiet_hours)


def _in_when(when: When, here: Path, names: Names) -> Iterator[Problem]:
    yield from names.check("channel", (*here, "channel"), *when.channel)
    yield from names.check("holiday calendar", (*here, "holidays"), when.holidays)
    for key, patterns in (("called", when.called), ("caller", when.caller)):
        yield from names.check("list", (*here, key), *_lists(patterns))
    for key, branches in (("any", when.any), ("all", when.all)):
        for index, branch in enumerate(branches):
            yield from _in_when(branch, (*here, key, index), names)
    if when.not_ is not None:
        yield from _in_when(when.not_, (*here, "not"), names)


def _lists(patterns: Iterable[Pattern]) -> Iterator[str]:
    return (pattern.group for pattern in patterns if pattern.group is not None)
