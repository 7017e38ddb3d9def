"""Rooms and keys before they are needed: a page must not wait for a room to be made or a key to be shared."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.model.doors import OPERATIONS, Courier, Destination
from bridge.model.errors import EncryptionUnavailableError, HomeserverError

GRACE = timedelta(seconds=3)

log = structlog.get_logger(__name__)


class Readiness:
    """Makes every room and shares its keys, at start and whenever members or devices change."""

    def __init__(self, desk: Desk, courier: Courier) -> None:
        self._desk = desk
        self._courier = courier
        self._unreadable: dict[Destination, datetime] = {}
        self._told: set[Destination] = set()

    async def step(self) -> float | None:
        """Look at every room once. Raises HomeserverError; a room that is refused keeps no other from being made."""
        refused: HomeserverError | None = None
        roster = self._desk.rulebook().config.roster
        named = (Destination(room=name) for name in roster.rooms)
        for destination in [OPERATIONS, *(Destination(role) for role in roster.roles), *named]:
            try:
                room = await self._courier.room(destination)
                await self._courier.prepare(room)
            except EncryptionUnavailableError as error:
                await self._note(destination, str(error))
            except HomeserverError as error:
                if error.retry:
                    raise
                refused = error
            else:
                self._unreadable.pop(destination, None)
                self._told.discard(destination)
        if refused is not None:
            raise refused
        return GRACE.total_seconds() if self._unreadable.keys() - self._told else None

    async def _note(self, destination: Destination, reason: str) -> None:
        since = self._unreadable.setdefault(destination, self._desk.now())
        # Who was just invited is about to join.
        if destination in self._told or self._desk.now() - since < GRACE:
            return
        self._told.add(destination)
        log.warning("room_unreadable", destination=str(destination), reason=reason)
        if destination == OPERATIONS:
            return
        text = f"⚠️ {destination}: nobody in the room could read a page now ({reason}). Pages for it climb at once."
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, self._desk.now())
        self._desk.bells.deliver.ring()
