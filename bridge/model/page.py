"""A page: something a human must answer for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.model.ids import (
    IntakeId,
    LadderId,
    PageId,
    PersonId,
    RetentionClassId,
    RoleId,
    RuleId,
    TemplateId,
    UserId,
)
from bridge.model.priority import Priority


class PageState(StrEnum):
    """The life of a page. `open`, `delivered` and `read` are still waiting for somebody."""

    OPEN = "open"
    DELIVERED = "delivered"
    READ = "read"
    ACCEPTED = "accepted"
    CLOSED = "closed"
    EXPIRED = "expired"

    @property
    def waiting(self) -> bool:
        """True while the ladder still climbs."""
        return self in (PageState.OPEN, PageState.DELIVERED, PageState.READ)


@dataclass(frozen=True, slots=True)
class Page:
    """The facts of a page that hold no PHI. Its content is the intake event in the vault."""

    id: PageId
    intake: IntakeId
    rule: RuleId
    role: RoleId
    priority: Priority
    ladder: LadderId
    template: TemplateId
    retention: RetentionClassId
    config_hash: str
    state: PageState
    opened_at: datetime
    step: int
    notified: tuple[PersonId, ...]
    accepted_by: UserId | None = None
    accepted_at: datetime | None = None
    room: str | None = None  # a room that roles.yaml names, instead of the role's own
    declined: tuple[PersonId, ...] = ()  # who will not be asked again
    latest: IntakeId | None = (
        None  # the latest of the like events that it bundles; None if it is the only one
    )
    count: int = 1
    held_until: datetime | None = None  # quiet hours or a digest; nobody has been notified before then
