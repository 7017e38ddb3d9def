"""Looks after the bridge itself: figures for metrics, and a word to operations after the homeserver was away."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Gauge

from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.policy.rendering import duration
from bridge.store import nodes, outbox, pages
from bridge.store.nodes import Node

LOOK_SECONDS = 5.0
WORTH_TELLING = timedelta(seconds=30)

log = structlog.get_logger(__name__)


class Watch:
    """Looks every few seconds."""

    def __init__(self, desk: Desk, node: Node, registry: CollectorRegistry) -> None:
        self._desk = desk
        self._node = node
        self._away_since: datetime | None = None
        self._outbox = Gauge("nightbell_outbox_waiting", "Messages that wait to be sent", registry=registry)
        self._pages = Gauge(
            "nightbell_pages_waiting", "Pages that nobody has accepted yet", registry=registry
        )
        self._up = Gauge("nightbell_homeserver_up", "1 while the homeserver answers", registry=registry)

    async def step(self) -> float | None:
        """Count, and notice when the homeserver goes and comes. Raises StoreUnavailableError if no write is taken."""
        async with self._desk.database.write() as connection:
            await nodes.beat(connection, self._node, self._desk.keys.vault.ids, self._desk.now())
        async with self._desk.database.read() as connection:
            waiting = await outbox.depth(connection)
            self._pages.set(await pages.count_waiting(connection))
        self._outbox.set(waiting)
        here = self._desk.pulse.is_well("sync")
        self._up.set(1 if here else 0)
        if not here:
            self._away_since = self._away_since or self._desk.now()
        elif self._away_since is not None:
            away = self._desk.now() - self._away_since
            self._away_since = None
            if away >= WORTH_TELLING:
                log.warning("homeserver_back", away_seconds=round(away.total_seconds()), waiting=waiting)
                await self._tell(
                    f"⚠️ The homeserver was away for {duration(away)}; {waiting} messages waited."
                )
        return LOOK_SECONDS

    async def _tell(self, text: str) -> None:
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, self._desk.now())
        self._desk.bells.deliver.ring()
