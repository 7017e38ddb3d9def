"""Who holds a role when.

The definition is `holders`, at one instant; all else asks it at the instants where its answer can change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.config import Config
from bridge.config.roster import Layer, Override, Role, Roster, Swap
from bridge.model.ids import PersonId, RoleId
from bridge.policy.calendars import calendar_spans
from bridge.policy.rotation import hand_off_index, hand_offs
from bridge.policy.times import Span, holds, instant, spans

# How long before a hand-over the incoming person joins and is looked at.
BEFORE_HAND_OVER = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody took or was given a role for a time, by a command in the room. The latest goes first."""

    role: RoleId
    start: datetime
    until: datetime
    holder: PersonId


@dataclass(frozen=True, slots=True)
class Shift:
    """Who holds a role from `start` until `until`: the first of `holders`; the others stand behind in order.

    An empty `holders` is a gap. `by_backup` says that only the role's backup stands in it.
    """

    role: RoleId
    start: datetime
    until: datetime
    holders: tuple[PersonId, ...]
    by_backup: bool = False


def on_call(
    config: Config, role: RoleId, at: datetime, changes: Iterable[Change] = ()
) -> tuple[PersonId, ...]:
    """Whom a page of a role goes to, in order: the holder, then those to climb to.

    After those whom the schedule names come the role's other members who are not on leave. It is never empty
    unless all members are on leave, even where the schedule has a gap.
    """
    roster = config.roster
    first = holders(config, role, at, changes)
    members = roster.persons(roster.roles[role].members)
    turn = members.index(first[0]) if first and first[0] in members else 0
    rest = (*members[turn:], *members[:turn])
    return tuple(dict.fromkeys((*first, *(person for person in rest if not on_leave(roster, person, at)))))


def holders(
    config: Config, role: RoleId, at: datetime, changes: Iterable[Change] = ()
) -> tuple[PersonId, ...]:
    """Who holds a role at an instant; then, in order, those whom lower layers name. Empty is a gap."""
    roster = config.roster
    scheduled = _scheduled(config, role, at, changes)
    backup = roster.roles[role].backup
    if not scheduled and backup is not None and not on_leave(roster, backup, at):
        return (backup,)
    return scheduled


def _scheduled(
    config: Config, role_id: RoleId, at: datetime, changes: Iterable[Change]
) -> tuple[PersonId, ...]:
    roster = config.roster
    role = roster.roles[role_id]
    zone = roster.zone(role_id)
    taken = _taken(config, role_id, at, changes)
    swapped = _swapped(role, zone, at)
    layers = (
        swapped.get(person, person)
        for layer in role.schedule.layers
        if _in_force(layer, zone, roster, at)
        for person in _of_layer(layer, zone, config, at)
    )
    found = (*reversed(taken), *reversed(_overridden(role, zone, at)), *layers)
    return tuple(dict.fromkeys(person for person in found if not on_leave(roster, person, at)))


def _taken(config: Config, role: RoleId, at: datetime, changes: Iterable[Change]) -> list[PersonId]:
    """Who took the present shift, or was given it. People who have been taken out of the files hold nothing."""
    return [
        change.holder
        for change in changes
        if change.role == role and change.start <= at < change.until and change.holder in config.roster.people
    ]


def on_leave(roster: Roster, person: PersonId, at: datetime) -> bool:
    """Whether a person is on leave at an instant."""
    return any(
        instant(leave.start, roster.time_zone) <= at < instant(leave.until, roster.time_zone)
        for leave in roster.people[person].leave
    )


def _overridden(role: Role, zone: ZoneInfo, at: datetime) -> list[PersonId]:
    return [
        PersonId(override.holder)
        for override in role.schedule.overrides
        if instant(override.start, zone) <= at < instant(override.until, zone)
    ]


def _swapped(role: Role, zone: ZoneInfo, at: datetime) -> dict[PersonId, PersonId]:
    swapped: dict[PersonId, PersonId] = {}
    for swap in role.schedule.swaps:
        if instant(swap.start, zone) <= at < instant(swap.until, zone):
            one, other = (PersonId(person) for person in swap.people)
            swapped |= {one: other, other: one}
    return swapped


def _in_force(layer: Layer, zone: ZoneInfo, roster: Roster, at: datetime) -> bool:
    if layer.start is not None and at < instant(layer.start, zone):
        return False
    if layer.until is not None and at >= instant(layer.until, zone):
        return False
    if layer.only is not None and not holds(layer.only, zone, roster, at):
        return False
    return layer.except_ is None or not holds(layer.except_, zone, roster, at)


def _of_layer(layer: Layer, zone: ZoneInfo, config: Config, at: datetime) -> tuple[PersonId, ...]:
    if layer.calendar is not None:
        found = calendar_spans(config, layer.calendar, zone, at, at + timedelta(microseconds=1))
        return tuple(person for _, person in found)
    people = config.roster.persons(layer.people)
    if layer.hand_off is None:
        return people[:1]
    index = hand_off_index(layer.hand_off, zone, at)
    return (people[index % len(people)],) if index is not None else ()


def shifts(
    config: Config, role: RoleId, start: datetime, until: datetime, changes: Iterable[Change] = ()
) -> tuple[Shift, ...]:
    """The shifts of a role from `start` until `until`, gaps included, without a hole between them."""
    changes = tuple(changes)
    edges = sorted({start, *(edge for edge in _edges(config, role, Span(start, until), changes))})
    merged: list[Shift] = []
    for begin, end in zip(edges, (*edges[1:], until), strict=True):
        who = holders(config, role, begin, changes)
        by_backup = bool(who) and not _scheduled(config, role, begin, changes)
        same = bool(merged) and (merged[-1].holders, merged[-1].by_backup) == (who, by_backup)
        since = merged.pop().start if same else begin
        merged.append(Shift(role, since, end, who, by_backup))
    return tuple(merged)


def _edges(config: Config, role_id: RoleId, within: Span, changes: Iterable[Change]) -> Iterator[datetime]:
    """Every instant strictly within a span at which the holders of a role can change."""
    roster = config.roster
    role = roster.roles[role_id]
    zone = roster.zone(role_id)
    found: list[datetime] = []
    for change in changes:
        found += (change.start, change.until)
    exceptions: tuple[Override | Swap, ...] = (*role.schedule.overrides, *role.schedule.swaps)
    for exception in exceptions:
        found += (instant(exception.start, zone), instant(exception.until, zone))
    for person in roster.people.values():
        for leave in person.leave:
            found += (instant(leave.start, roster.time_zone), instant(leave.until, roster.time_zone))
    for layer in role.schedule.layers:
        found += _layer_edges(layer, zone, config, within)
    return (edge for edge in found if within.start < edge < within.until)


def _layer_edges(layer: Layer, zone: ZoneInfo, config: Config, within: Span) -> Iterator[datetime]:
    yield from (instant(edge, zone) for edge in (layer.start, layer.until) if edge is not None)
    for condition in (layer.only, layer.except_):
        if condition is not None:
            for span in spans(condition, zone, config.roster, within.start, within.until):
                yield from (span.start, span.until)
    if layer.hand_off is not None:
        yield from hand_offs(layer.hand_off, zone, within.start, within.until)
    if layer.calendar is not None:
        for span, _ in calendar_spans(config, layer.calendar, zone, within.start, within.until):
            yield from (span.start, span.until)


def room_members(
    config: Config, role: RoleId, at: datetime, changes: Iterable[Change] = ()
) -> tuple[PersonId, ...]:
    """Who should be in a role's room: all its people, or, if its membership follows the shift, who is on duty.

    On duty are those whom the schedule names, the backup, and whoever takes over in the next half hour, so that
    their devices have the room's keys before the first page.
    """
    of = config.roster.roles[role]
    backup = (of.backup,) if of.backup is not None else ()
    changes = tuple(changes)
    if of.room.members == "roster":
        taken = _taken(config, role, at, changes)
        return tuple(dict.fromkeys((*config.roster.persons(of.members), *backup, *taken)))
    present = (holders(config, role, moment, changes) for moment in (at, at + BEFORE_HAND_OVER))
    return tuple(dict.fromkeys((*(person for people in present for person in people), *backup)))


@dataclass(frozen=True, slots=True)
class HandOver:
    """A role goes from one holder to the next. Either is None where there is a gap."""

    role: RoleId
    at: datetime
    outgoing: PersonId | None
    incoming: PersonId | None


_FAR = timedelta(days=90)


def shift_at(config: Config, role: RoleId, at: datetime, changes: Iterable[Change] = ()) -> Shift:
    """The shift at an instant, from then until it ends, or for 90 days if it doesn't end before."""
    changes = tuple(changes)
    look = timedelta(days=1)
    # Most shifts end within a day; looking no farther than needed keeps this cheap.
    while (found := shifts(config, role, at, at + look, changes)[0]).until >= at + look and look < _FAR:
        look = min(look * 4, _FAR)
    return found


def next_hand_over(
    config: Config, role: RoleId, after: datetime, changes: Iterable[Change] = ()
) -> HandOver | None:
    """The next change of a role's first holder within 90 days; None if there is none."""
    changes = tuple(changes)
    present = holders(config, role, after, changes)[:1]
    shift = shift_at(config, role, after, changes)
    while shift.holders[:1] == present and shift.until < after + _FAR:
        shift = shift_at(config, role, shift.until, changes)
    if shift.holders[:1] == present:
        return None
    return HandOver(role, shift.start, *(next(iter(who), None) for who in (present, shift.holders)))


def double_cover(config: Config, role_id: RoleId, start: datetime, until: datetime) -> tuple[Shift, ...]:
    """When a schedule names several people without saying which of them holds the role.

    That is: overrides that overlap, entries of a calendar that overlap, and layers for certain hours that meet.
    A layer for all hours below others is a net, one for holidays or dates above others an exception: neither is
    double cover.
    """
    found: list[Shift] = []
    edges = sorted({start, *_edges(config, role_id, Span(start, until), ())})
    for begin, end in zip(edges, (*edges[1:], until), strict=True):
        people = _rivals(config, role_id, begin)
        if len(people) > 1:
            joined = bool(found) and found[-1].until == begin and found[-1].holders == people
            since = found.pop().start if joined else begin
            found.append(Shift(role_id, since, end, people))
    return tuple(found)


def _rivals(config: Config, role_id: RoleId, at: datetime) -> tuple[PersonId, ...]:
    roster = config.roster
    role, zone = roster.roles[role_id], roster.zone(role_id)
    overridden = _overridden(role, zone, at)
    if overridden:
        return tuple(dict.fromkeys(overridden))
    by_layer = (
        _of_layer(layer, zone, config, at)
        for layer in role.schedule.layers
        if _claims_hours(layer) and _in_force(layer, zone, roster, at)
    )
    return tuple(dict.fromkeys(person for people in by_layer for person in people))


def _claims_hours(layer: Layer) -> bool:
    exceptional = layer.only is not None and bool(layer.only.dates or layer.only.holidays)
    return layer.calendar is not None or (layer.only is not None and not exceptional)
