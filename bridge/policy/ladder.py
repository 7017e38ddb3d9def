"""How a page climbs until somebody accepts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.config import Config
from bridge.config.ladders import Ladder, Step
from bridge.model.decision import Decision, Move, StepKind
from bridge.model.ids import PersonId, RoleId
from bridge.model.page import Page
from bridge.policy.schedule import Change, on_call, on_leave

# Whether a person can be reached about a page of a role: is in its room, has a device that gets its keys, and
# has not declined.
Reachable = Callable[[RoleId, PersonId], bool]


def everybody(_role: RoleId, _person: PersonId) -> bool:
    """Where it can't be known who can be reached, or need not be."""
    return True


def open_page(
    config: Config,
    decision: Decision,
    now: datetime,
    reachable: Reachable = everybody,
    changes: Iterable[Change] = (),
) -> Move:
    """Whom a new page notifies: its role's holder, or the first step of its ladder that reaches anybody."""
    changes = tuple(changes)
    first = decision.person or next(iter(on_call(config, decision.role, now, changes)), None)
    ladder = config.routing.ladders[decision.ladder]
    place = _Place(config, ladder, decision.role, now, reachable, changes)
    if first is not None and place.can(decision.role, first):
        return Move(0, None, (first,), decision.role, now + ladder.steps[0].after)
    return _climb(place, 0, ("0 on call",))


def climb(
    config: Config,
    page: Page,
    now: datetime,
    reachable: Reachable = everybody,
    changes: Iterable[Change] = (),
    *,
    due: datetime | None = None,
) -> Move:
    """The next step of a page that nobody has accepted. Steps that reach nobody are passed over at once.

    `page.notified` are all whom the page has notified so far, the latest last. `due` is when the step should
    have been made; the move says how late it is. A move that notifies nobody and has no kind is the end of the
    ladder.
    """
    ladder = config.routing.ladders[page.ladder]
    place = _Place(config, ladder, page.role, now, reachable, tuple(changes), page.notified)
    late_by = max(now - due, timedelta(0)) if due is not None else timedelta(0)
    return _climb(place, page.step, (), late_by)


def plan(config: Config, decision: Decision, now: datetime, changes: Iterable[Change] = ()) -> Iterator[Move]:
    """The moves of a page that everybody can be reached about and nobody accepts, to the end of its ladder."""
    changes = tuple(changes)
    move = open_page(config, decision, now, changes=changes)
    place = _Place(config, config.routing.ladders[decision.ladder], move.role, now, everybody, changes)
    while True:
        yield move
        if move.next_due is None:
            return
        notified = latest(place.notified, move.notify)
        place = replace(place, role=move.role, notified=notified, now=move.next_due)
        move = _climb(place, move.step, ())


def latest(notified: tuple[PersonId, ...], now_notified: Iterable[PersonId]) -> tuple[PersonId, ...]:
    """All whom a page has notified, each once, those of the latest move last."""
    anew = tuple(now_notified)
    return (*(person for person in notified if person not in anew), *anew)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page stands, and what it could reach from there."""

    config: Config
    ladder: Ladder
    role: RoleId
    now: datetime
    reachable: Reachable
    changes: tuple[Change, ...]
    notified: tuple[PersonId, ...] = ()

    def can(self, role: RoleId, person: PersonId) -> bool:
        """Whether a person can be asked: the files may have them no more."""
        if person not in self.config.roster.people:
            return False
        return not on_leave(self.config.roster, person, self.now) and self.reachable(role, person)

    def step(self, number: int) -> Step | None:
        """A step by its number from 1, through all repetitions."""
        steps = self.ladder.steps
        return steps[(number - 1) % len(steps)] if number <= len(steps) * (1 + self.ladder.repeat) else None


def _climb(place: _Place, at: int, skipped: tuple[str, ...], late_by: timedelta = timedelta(0)) -> Move:
    number = at
    while (step := place.step(number := number + 1)) is not None:
        role = step.role or place.role
        notify = tuple(p for p in _people(place, number, step, role) if place.can(role, p))
        if notify or step.notify is StepKind.OPERATIONS:
            following = place.step(number + 1)
            due = place.now + following.after if following is not None else None
            return Move(number, step.notify, notify, role, due, skipped, late_by)
        skipped = (*skipped, f"{number} {step.notify}")
    return Move(max(number - 1, at), None, (), place.role, None, skipped, late_by)


def _people(place: _Place, number: int, step: Step, role: RoleId) -> tuple[PersonId, ...]:
    config, now = place.config, place.now
    match step.notify:
        case StepKind.RENOTIFY:
            return _notified_last(place, number)
        case StepKind.NEXT:
            return _next(place, number, role)
        case StepKind.BACKUP:
            backup = config.roster.roles[role].backup
            return (backup,) if backup is not None else ()
        case StepKind.ROLE:
            return tuple(p for p in on_call(config, role, now, place.changes) if place.can(role, p))[:1]
        case StepKind.EVERYONE:
            return config.roster.persons(config.roster.roles[role].members)
        case StepKind.OPERATIONS:
            return ()


def _next(place: _Place, number: int, role: RoleId) -> tuple[PersonId, ...]:
    """The next of the role after the one notified last: in the first round only somebody new, later in turn."""
    order = on_call(place.config, role, place.now, place.changes)
    last = place.notified[-1] if place.notified else None
    turn = order.index(last) + 1 if last in order else 0
    others = [p for p in (*order[turn:], *order[:turn]) if p != last and place.can(role, p)]
    new = [person for person in others if person not in place.notified]
    later_round = number > len(place.ladder.steps)
    return tuple((new or (others if later_round else []))[:1])


def _notified_last(place: _Place, number: int) -> tuple[PersonId, ...]:
    """Whom the last step that chose people chose; only `everyone` chooses more than one."""
    for earlier in range(number - 1, 0, -1):
        step = place.step(earlier)
        if step is not None and step.notify not in (StepKind.RENOTIFY, StepKind.OPERATIONS):
            return place.notified if step.notify is StepKind.EVERYONE else place.notified[-1:]
    return place.notified[-1:]
