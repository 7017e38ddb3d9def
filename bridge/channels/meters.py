"""What metrics tell of the doors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from bridge.model.ids import ChannelId


@dataclass(frozen=True, slots=True)
class Meters:
    """The doors' own, of every kind of channel."""

    requests: Counter
    seconds: Histogram
    turned_away: Counter
    tell: Callable[[ChannelId, str], None]

    @classmethod
    def of(
        cls, registry: CollectorRegistry, tell: Callable[[ChannelId, str], None] = lambda _, __: None
    ) -> Meters:
        """Register them, once. `tell` hears of everything that came, too."""
        return cls(
            Counter(
                "nightbell_intake_requests",
                "Requests, pages, mails and calls of channels, by what became of them",
                ["channel", "outcome"],
                registry=registry,
            ),
            Histogram(
                "nightbell_intake_seconds",
                "From a request's headers to its answer",
                ["channel"],
                registry=registry,
            ),
            Counter("nightbell_turned_away", "Connections over the bound", registry=registry),
            tell,
        )

    def count(self, channel: ChannelId, outcome: str) -> None:
        """Something came to a channel; `outcome` is a word for what became of it."""
        self.requests.labels(channel, outcome).inc()
        self.tell(channel, outcome)
