"""Sees within seconds that somebody was taken out: rooms are fitted without them, and get keys that they lack."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bridge.engine.situation import Situation
from bridge.store import leavers
from bridge.store.database import Database

LOOK_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Offboarding:
    """Looks for people who were taken out by command, in another process."""

    def __init__(self, database: Database, situation: Situation, *, changed: Callable[[], None]) -> None:
        self._database = database
        self._situation = situation
        self._changed = changed

    async def step(self) -> float | None:
        """Look once."""
        async with self._database.read() as connection:
            known = await leavers.all_of_them(connection)
        if known != self._situation.leavers:
            log.info("leavers_changed", people=len(known))
            self._situation.leavers = known
            self._changed()
        return LOOK_SECONDS
