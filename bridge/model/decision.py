"""What policy decides: where an event goes, and what a page does next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from bridge.model.ids import LadderId, PersonId, RetentionClassId, RoleId, RuleId, TemplateId
from bridge.model.priority import Priority


@dataclass(frozen=True, slots=True)
class Decision:
    """Which role gets an event, how urgently, and why. `why` holds no PHI: it names rules and conditions."""

    rule: RuleId
    role: RoleId
    priority: Priority
    ladder: LadderId
    template: TemplateId
    retention: RetentionClassId
    why: tuple[str, ...]
    config_hash: str
    person: PersonId | None = None  # notified first, instead of whoever holds the role
    room: str | None = None  # a named room of roles.yaml, instead of the role's own
    hold_until: datetime | None = None  # quiet hours or a digest: the page waits until then
    bundle: timedelta | None = None  # like events within this time join a page that is still open
    auto_reply: str | None = None  # what the sender is told, where the channel can


@dataclass(frozen=True, slots=True)
class Routing:
    """The one page an event always becomes, and further ones that rules with `continue: true` add."""

    primary: Decision
    also: tuple[Decision, ...] = ()

    @property
    def all(self) -> tuple[Decision, ...]:
        return (self.primary, *self.also)


class StepKind(StrEnum):
    """Whom a step of a ladder notifies."""

    RENOTIFY = "renotify"  # those who were notified last, again
    NEXT = "next"  # the next person of the role, in order
    BACKUP = "backup"  # the role's backup
    ROLE = "role"  # whoever holds another role
    EVERYONE = "everyone"  # all members of the role
    OPERATIONS = "operations"  # the operations room


@dataclass(frozen=True, slots=True)
class Move:
    """One climb of a ladder: whom to notify now, and when the next step is due if nobody accepts.

    `step` counts from 0 for the first notification, made when the page opens. `notify` is empty only for
    steps that tell the operations room. `next_due` is None when the ladder has ended. `skipped` names the
    steps on which nobody could be reached, which are passed over at once.
    """

    step: int
    kind: StepKind | None
    notify: tuple[PersonId, ...]
    role: RoleId
    next_due: datetime | None
    skipped: tuple[str, ...] = ()
    late_by: timedelta = timedelta(0)
