"""Lets the ledger's oldest records go when they have been kept for long enough."""

from __future__ import annotations

from datetime import timedelta

import structlog

from bridge.engine.rulebook import Clock
from bridge.store import holds, ledger
from bridge.store.database import Database

log = structlog.get_logger(__name__)


class Pruning:
    """Prunes the ledger, a batch at a time. While any legal hold is in force it keeps everything."""

    def __init__(self, database: Database, *, keep: timedelta, now: Clock) -> None:
        self._database = database
        self._keep = keep
        self._now = now

    async def step(self) -> float | None:
        """Prune one batch, if one is due. Returns None when nothing is."""
        now = self._now()
        async with self._database.read() as connection:
            due = await ledger.prunable(connection, now - self._keep, at_most=ledger.PRUNED_AT_ONCE)
            if due is None or await holds.in_force(connection):
                return None
        async with self._database.write() as connection:
            if await holds.in_force(connection):  # placed meanwhile
                return None
            pruned = await ledger.prune(connection, now - self._keep, now)
        if pruned is not None:
            log.info("ledger_pruned", records=pruned.records, until=pruned.until.head.seq)
        return 1.0
