"""How the loops are: what health and metrics tell of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True)
class Beat:
    """The last that was heard of a loop. `error` is None while it is well."""

    at: datetime
    error: str | None


class Pulse:
    """Collects the beats of all loops."""

    def __init__(self, now: Callable[[], datetime], registry: CollectorRegistry) -> None:
        self._now = now
        self._beats: dict[str, Beat] = {}
        self._said: dict[str, str] = {}
        self._errors = Counter(
            "nightbell_loop_errors", "Steps of a loop that failed", ["loop"], registry=registry
        )
        self._up = Gauge(
            "nightbell_loop_up", "1 while a loop's last step went well", ["loop"], registry=registry
        )

    def beat(self, loop: str, error: BaseException | None) -> None:
        """A loop has made a step, or failed to."""
        self._up.labels(loop).set(0 if error else 1)
        if error:
            self._errors.labels(loop).inc()
        # Only the type: a message may repeat what it failed on.
        self._beats[loop] = Beat(self._now(), type(error).__name__ if error else None)

    def say(self, part: str, state: str) -> None:
        """How something is that no loop stands for."""
        self._said[part] = state

    def is_well(self, loop: str) -> bool:
        """Whether a loop's last step went well; False before its first."""
        beat = self._beats.get(loop)
        return beat is not None and beat.error is None

    def parts(self) -> dict[str, str]:
        """Each loop in a word, and what else was said."""
        loops = {loop: beat.error or "well" for loop, beat in sorted(self._beats.items())}
        return {**loops, **self._said}
