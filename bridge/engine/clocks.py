"""The machine's own clock: whether it goes as time does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter

from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.policy.rendering import duration

LOOK_SECONDS = 5.0
WORTH_TELLING = timedelta(seconds=5)

log = structlog.get_logger(__name__)


class Clocks:
    """Looks every few seconds whether the clock was set meanwhile, by how far it went against one that can't be."""

    def __init__(
        self,
        desk: Desk,
        registry: CollectorRegistry,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._wall = wall
        self._steady = steady
        self._known = self._lead()
        self._set = Counter(
            "nightbell_clock_set", "Times that this machine's clock was set by seconds", registry=registry
        )

    async def step(self) -> float:
        """Tell operations if it was set. Returns when to look again."""
        lead = self._lead()
        leap = lead - self._known
        if abs(leap) >= WORTH_TELLING:
            way = "ahead" if leap > timedelta(0) else "back"
            log.warning("clock_set", seconds=round(leap.total_seconds()))
            text = (
                f"⚠️ This machine's clock was set {way} by {duration(abs(leap))}. What waits for a time of day comes as "
                "much earlier or later. See to its time service (NTP)."
            )
            async with self._desk.database.write() as connection:
                await operations.tell(connection, self._desk.keys, text, self._desk.now())
            self._desk.bells.deliver.ring()
            self._set.inc()
        self._known = lead
        return LOOK_SECONDS

    def _lead(self) -> timedelta:
        return timedelta(seconds=self._wall() - self._steady())
