"""Ladders: how a page climbs, as routing.yaml writes it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from bridge.config.values import Duration, Section
from bridge.model.decision import StepKind
from bridge.model.ids import LadderId, RoleId
from bridge.model.priority import Priority

# One ladder for all priorities, or one for each.
LadderChoice = LadderId | dict[Priority, LadderId]


def chosen(choice: LadderChoice | None, priority: Priority) -> LadderId | None:
    """The ladder for a priority, if there is one."""
    return choice.get(priority) if isinstance(choice, dict) else choice


_NOTIFY = {
    "again": StepKind.RENOTIFY,
    "next": StepKind.NEXT,
    "backup": StepKind.BACKUP,
    "everyone": StepKind.EVERYONE,
    "operations": StepKind.OPERATIONS,
}


def _step_kind(value: Any) -> Any:
    if isinstance(value, StepKind):
        return value
    if str(value) not in _NOTIFY:
        raise ValueError(f"should be one of {', '.join(_NOTIFY)}; for another role write `role: NAME`")
    return _NOTIFY[str(value)]


class Step(Section):
    """One step: `after` so long without an acceptance since the step before, notify somebody."""

    after: Duration
    notify: Annotated[StepKind, BeforeValidator(_step_kind)] = StepKind.ROLE
    role: RoleId | None = None

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if (self.notify is StepKind.ROLE) is (self.role is None):
            raise ValueError("needs either notify or role")
        return self


class Ladder(Section):
    """The steps of an unaccepted page. Before them, as it opens, whoever holds the role is notified.

    The steps run once, and `repeat` more times.
    """

    steps: tuple[Step, ...] = Field(min_length=1)
    repeat: int = Field(0, ge=0, le=100)
