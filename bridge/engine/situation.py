"""What policy must know beside the configuration: shifts that commands have changed, and who can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine.rulebook import Clock
from bridge.model.decision import Decision
from bridge.model.doors import Courier, Destination
from bridge.model.errors import NightbellError
from bridge.model.ids import PersonId, RoleId, UserId
from bridge.model.page import Page
from bridge.model.priority import Priority
from bridge.policy.called_in import called_in, follows_shift
from bridge.policy.ladder import Reachable
from bridge.policy.requests import members
from bridge.policy.schedule import Change, room_members
from bridge.store import pages, shifts

# Whoever accepts a page and never closes it does not stay in the room for ever.
ACCEPTED_FOR = timedelta(days=1)
ASK_AGAIN = timedelta(minutes=1)
ASK_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Situation:
    """Asked by every loop that decides something. The courier comes once the homeserver has answered."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._changes: tuple[Change, ...] = ()
        self._called: dict[RoleId, frozenset[PersonId]] = {}
        self._outside: dict[frozenset[UserId], tuple[datetime, frozenset[UserId]]] = {}
        self.courier: Courier | None = None
        self.leavers: frozenset[UserId] = frozenset()  # taken out by command, whatever the files say

    async def load(self, connection: AsyncConnection) -> None:
        """Read the shift changes anew."""
        self._changes = await shifts.changes(connection, self._now())

    async def load_pages(self, connection: AsyncConnection, config: Config) -> None:
        """Read anew whom pages bring into rooms that follow the shift."""
        now, roster = self._now(), config.roster
        roles = [role for role in roster.roles if follows_shift(config, role)]
        recent = await pages.recent_pages(connection, roster.roles, now - ACCEPTED_FOR) if roles else []
        self._called = {role: called_in(config, role, recent, now, self.changes) for role in roles}

    def called_in(self, role: RoleId) -> frozenset[PersonId]:
        """Whom pages bring into a role's room, beside whom its schedule does."""
        return self._called.get(role, frozenset())

    @property
    def changes(self) -> tuple[Change, ...]:
        """The shift changes that are not over."""
        now = self._now()
        return tuple(change for change in self._changes if change.until > now)

    async def reachable(
        self, config: Config, destinations: Iterable[Destination], without: Iterable[PersonId] = ()
    ) -> Reachable:
        """Who is in these rooms, or would be asked into them, with a trusted device, and is not among `without`.

        Nobody counts as unreachable while it can't be known: a homeserver that is away must not make the
        ladder pass people over.
        """
        readers = {destination: await self._readers(config, destination) for destination in set(destinations)}
        declined = frozenset(without)

        def reachable(role: RoleId, person: PersonId) -> bool:
            if person in declined:
                return False
            known = [users for place, users in readers.items() if place.role in (role, None)]
            found = [users for users in known if users is not None]
            return not found or any(config.roster.people[person].matrix in users for users in found)

        return reachable

    async def last_active(self, user: UserId) -> datetime | None:
        """When a person's devices were last active; None while that can't be known."""
        if self.courier is None:
            return None
        try:
            return await self.courier.last_active(user)
        except NightbellError as error:
            log.debug("activity_unknown", reason=str(error))
            return None

    async def _readers(self, config: Config, destination: Destination) -> frozenset[UserId] | None:
        if self.courier is None:
            return None
        try:
            readers = await self.courier.readers(destination)
        except NightbellError as error:
            log.debug("readers_unknown", destination=str(destination), reason=str(error))
            return None
        role = destination.role
        if role is None or not follows_shift(config, role):
            return readers
        here = {*room_members(config, role, self._now(), self.changes), *self.called_in(role)}
        others = (
            config.roster.people[person].matrix for person in members(config, role) if person not in here
        )
        return readers | await self._could_come(self.courier, frozenset(others) - self.leavers)

    async def _could_come(self, courier: Courier, users: frozenset[UserId]) -> frozenset[UserId]:
        """Who could read a room if they were asked into it; found out once a minute, since nobody tells us."""
        asked_at, could = self._outside.get(users, (None, users))
        if not users or (asked_at is not None and self._now() < asked_at + ASK_AGAIN):
            return could
        try:
            async with asyncio.timeout(ASK_SECONDS):
                could = await courier.trusted(users)
        except (NightbellError, TimeoutError) as error:
            log.debug("devices_unknown", reason=str(error))
            could = users
        self._outside[users] = (self._now(), could)
        return could


def destination_of(config: Config, role: RoleId, room: str | None) -> Destination:
    """Where a page's message stands: in a named room if it has one that still exists, else in its role's."""
    return Destination(room=room) if room is not None and room in config.roster.rooms else Destination(role)


def is_known(config: Config, destination: Destination) -> bool:
    """Whether a destination is one that the configuration still has."""
    if destination.role is not None:
        return destination.role in config.roster.roles
    return destination.room is None or destination.room in config.roster.rooms


def room_of(config: Config, decision: Decision) -> str | None:
    """The named room of a decision: the rule's, or for STAT the role's own."""
    if decision.room is not None or decision.priority is not Priority.STAT:
        return decision.room
    return config.roster.roles[decision.role].stat_room


def places(config: Config, page: Page) -> set[Destination]:
    """Every room that a page's ladder may go to."""
    steps = config.routing.ladders[page.ladder].steps
    return {
        destination_of(config, page.role, page.room),
        *(Destination(step.role) for step in steps if step.role),
    }
