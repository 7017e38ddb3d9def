"""How often each source may come. Whoever comes more often is told to come again, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MAX_SOURCES = 10_000  # remembered at once


@dataclass(frozen=True, slots=True)
class _Level:
    left: float
    at: float


@dataclass(slots=True)
class Rate:
    """A bound on each source: a minute's worth may come at once, and after that as much as a minute brings."""

    per_minute: int
    clock: Callable[[], float] = monotonic
    levels: dict[str, _Level] = field(default_factory=dict)

    def wait(self, source: str) -> float:
        """Take one. 0 if there was one, else the seconds until there is."""
        now, whole = self.clock(), float(self.per_minute)
        known = self.levels.pop(source, _Level(whole, now))
        left = min(whole, known.left + (now - known.at) * whole / 60)
        taken = left >= 1
        self.levels[source] = _Level(left - taken, now)
        if len(self.levels) > MAX_SOURCES:
            del self.levels[next(iter(self.levels))]  # who has not come for the longest time
        return 0.0 if taken else (1 - left) * 60 / whole
