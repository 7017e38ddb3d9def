"""When content goes, and why; and what a legal hold keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.config.retention import After, RetentionClass, RetentionConfig
from bridge.model.ids import PageId, RetentionClassId, RoleId, RoomId
from bridge.policy.rendering import duration


@dataclass(frozen=True, slots=True)
class Life:
    """What decides about the content of a page. `caller` is the vault's fingerprint of the number.

    `latest` is when the last event came that joined it.
    """

    page: PageId
    role: RoleId
    retention: RetentionClassId
    arrived: datetime
    accepted: datetime | None = None
    closed: datetime | None = None
    rooms: frozenset[RoomId] = frozenset()
    caller: bytes | None = None
    latest: datetime | None = None


@dataclass(frozen=True, slots=True)
class End:
    """When the content of a page goes, and by which clause."""

    at: datetime
    why: str


def end_of(config: RetentionConfig, life: Life) -> End:
    """The end of a page's content, as far as it can be known now."""
    kind = config.of(life.retention)
    began = {
        After.ARRIVAL: life.arrived,
        After.ACCEPTED: life.accepted or life.closed,
        After.CLOSED: life.closed,
    }
    since = began[kind.after]
    at_latest = f"{duration(kind.longest)} after arrival at the latest"
    if since is None:
        why = f"{life.retention}: not {kind.after.value}, so {at_latest}"
        return End(life.arrived + kind.longest, why)
    return min(
        End(since + kind.keep, after(life.retention, kind)),
        End(life.arrived + kind.longest, f"{life.retention}: {at_latest}"),
        key=lambda end: end.at,
    )


def after(name: RetentionClassId, kind: RetentionClass) -> str:
    """The clause by which content of a class usually goes."""
    began = "arrival" if kind.after is After.ARRIVAL else f"it was {kind.after.value}"
    return f"{name}: {duration(kind.keep)} after {began}"


class HoldKind(StrEnum):
    """What a legal hold is about."""

    PAGE = "page"
    ROOM = "room"
    ROLE = "role"
    NUMBER = "number"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Hold:
    """Content that must not go. `value` is an id, or a number's fingerprint in hexadecimal digits.

    `start` and `until` narrow any kind down to pages of which anything arrived between them.
    """

    id: str
    kind: HoldKind
    value: str = ""
    start: datetime | None = None
    until: datetime | None = None

    def covers(self, life: Life) -> bool:
        """Whether a page's content is held."""
        latest = life.latest or life.arrived
        if (self.start and latest < self.start) or (self.until and life.arrived >= self.until):
            return False
        subject = {
            HoldKind.PAGE: self.value == life.page,
            HoldKind.ROOM: self.value in life.rooms,
            HoldKind.ROLE: self.value == life.role,
            HoldKind.NUMBER: life.caller is not None and self.value == life.caller.hex(),
            HoldKind.RANGE: True,
        }
        return subject[self.kind]

    def may_concern(self, since: datetime, until: datetime) -> bool:
        """Whether what came between two moments may be held, of which nobody knows by itself whom it is about."""
        return (self.until is None or since < self.until) and (self.start is None or until > self.start)


def held_by(holds: Iterable[Hold], lives: Iterable[Life]) -> Hold | None:
    """The hold that keeps content which these pages share."""
    lives = tuple(lives)
    return next((hold for hold in holds if any(hold.covers(life) for life in lives)), None)
