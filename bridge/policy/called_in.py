"""Who is asked into a room that follows the shift, because a page's ladder has come to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from bridge.config import Config
from bridge.model.ids import PersonId, RoleId
from bridge.model.page import Page, PageState
from bridge.policy.requests import members
from bridge.policy.schedule import Change, room_members

# So that everybody who was asked sees who has accepted.
STAY = timedelta(minutes=10)


def follows_shift(config: Config, role: RoleId) -> bool:
    """Whether only who is on duty is in a role's room."""
    return config.roster.roles[role].room.members == "on_duty"


def called_in(
    config: Config, role: RoleId, pages: Iterable[Page], now: datetime, changes: Iterable[Change] = ()
) -> frozenset[PersonId]:
    """Whom the pages bring into the room of a role whose membership follows the shift.

    Whoever a page notified is there as long as it waits for somebody, unless they have declined it, and for ten
    minutes after it was accepted; who accepted it, until it is closed. Who was on duty when the page came is there
    for that, and leaves with their shift.
    """
    if not follows_shift(config, role):
        return frozenset()
    mine, changes = members(config, role), tuple(changes)
    called: set[PersonId] = set()
    for page in pages:
        if _leads_to(config, page, role):
            on_duty = room_members(config, role, page.opened_at, changes)
            called.update(p for p in _asked(config, page, now) if p in mine and p not in on_duty)
    return frozenset(called)


def _leads_to(config: Config, page: Page, role: RoleId) -> bool:
    ladder = config.routing.ladders.get(page.ladder)
    return page.role == role or (ladder is not None and any(step.role == role for step in ladder.steps))


def _asked(config: Config, page: Page, now: datetime) -> Iterable[PersonId]:
    if page.state.waiting:
        return [person for person in page.notified if person not in page.declined]
    if page.state is not PageState.ACCEPTED or page.accepted_by is None or page.accepted_at is None:
        return []
    accepter = config.roster.person_of(page.accepted_by)
    lately = page.notified if now < page.accepted_at + STAY else ()
    return [*lately, *([accepter] if accepter else [])]
