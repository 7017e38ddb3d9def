"""How a page climbs until somebody accepts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.config import Config
from bridge.config.routing import Ladder, Step
from bridge.model.decision import Decision, Move, StepKind
from bridge.model.ids import PersonId, RoleId
from bridge.model.page import Page
from bridge.policy.schedule import Change, on_call

# Whether a person can be reached about a page of a role: is in its room, has a device that gets its keys, and
# has not declined.
Reachable = Callable[[RoleId, PersonId], bool]


def _everyone(_role: RoleId, _person: PersonId) -> bool:
    return True


def open_page(
    config: Config,
    decision: Decision,
    now: datetime,
    reachable: Reachable = _everyone,
    changes: Iterable[Change] = (),
) -> Move:
    """Whom a new page notifies: its role's holder, or the first step of its ladder that reaches anybody."""
    holder = on_call(config, decision.role, now, changes)[:1]
    ladder = config.routing.ladders[decision.ladder]
    if holder and reachable(decision.role, holder[0]):
        return Move(0, None, holder, decision.role, now + ladder.steps[0].after)
    place = _Place(config, ladder, decision.role, (), now, reachable, tuple(changes))
    return _climb(place, 0, ("0 on call",))


def climb(
    config: Config,
    page: Page,
    now: datetime,
    reachable: Reachable = _everyone,
    changes: Iterable[Change] = (),
    *,
    due: datetime | None = None,
) -> Move:
    """The next step of a page that nobody has accepted. Steps that reach nobody are passed over at once.

    `due` is when the step should have been made; the move says how late it is. A move that notifies nobody
    and has no kind is the end of the ladder.
    """
    ladder = config.routing.ladders[page.ladder]
    place = _Place(config, ladder, page.role, page.notified, now, reachable, tuple(changes))
    late_by = max(now - due, timedelta(0)) if due is not None else timedelta(0)
    return _climb(place, page.step, (), late_by)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a climb looks at."""

    config: Config
    ladder: Ladder
    role: RoleId
    notified: tuple[PersonId, ...]
    now: datetime
    reachable: Reachable
    changes: tuple[Change, ...]

    def step(self, number: int) -> Step | None:
        """A step by its number from 1, through all repetitions."""
        steps = self.ladder.steps
        return steps[(number - 1) % len(steps)] if number <= len(steps) * (1 + self.ladder.repeat) else None


def _climb(place: _Place, at: int, skipped: tuple[str, ...], late_by: timedelta = timedelta(0)) -> Move:
    number = at
    while (step := place.step(number := number + 1)) is not None:
        role = step.role or place.role
        notify = tuple(p for p in _people(place, number, step, role) if place.reachable(role, p))
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
            waiting = (p for p in on_call(config, role, now, place.changes) if p not in place.notified)
            return next(((p,) for p in waiting if place.reachable(role, p)), ())
        case StepKind.BACKUP:
            backup = config.roster.roles[role].backup
            return (backup,) if backup is not None else ()
        case StepKind.ROLE:
            return on_call(config, role, now, place.changes)[:1]
        case StepKind.EVERYONE:
            return config.roster.persons(config.roster.roles[role].members)
        case StepKind.OPERATIONS:
            return ()


def _notified_last(place: _Place, number: int) -> tuple[PersonId, ...]:
    """Whom the last step that chose people chose; only `everyone` chooses more than one."""
    for earlier in range(number - 1, 0, -1):
        step = place.step(earlier)
        if step is not None and step.notify not in (StepKind.RENOTIFY, StepKind.OPERATIONS):
            return place.notified if step.notify is StepKind.EVERYONE else place.notified[-1:]
    return place.notified[-1:]
