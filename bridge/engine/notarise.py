"""Vouches for the ledger from time to time: a signature in the database, and one in a file kept elsewhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import structlog

from bridge.engine.rulebook import Clock
from bridge.ledger import Checkpoint, checkpoint_line
from bridge.store import ledger
from bridge.store.database import Database
from bridge.store.keys import KeyRing

log = structlog.get_logger(__name__)


class Notary:
    """Signs where the chain stands, whenever it has grown for long enough."""

    def __init__(
        self, database: Database, keys: KeyRing, *, every: timedelta, anchor: Path | None, now: Clock
    ) -> None:
        self._database = database
        self._keys = keys
        self._every = every
        self._anchor = anchor
        self._now = now

    async def step(self) -> float | None:
        """Sign what is not signed yet, if the last signature is old enough. Returns when to look again."""
        now = self._now()
        async with self._database.read() as connection:
            last = await ledger.last_checkpoint(connection)
        wait = (last.at + self._every - now).total_seconds() if last else 0.0
        if wait > 0:
            return wait
        async with self._database.write() as connection:
            signed = await ledger.checkpoint(connection, self._keys.signer(), now)
        if signed is not None:
            log.info("ledger_signed", record=signed.head.seq)
            if self._anchor is not None:
                await asyncio.to_thread(_append, self._anchor, signed)
        return self._every.total_seconds()


def _append(file: Path, checkpoint: Checkpoint) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(checkpoint_line(checkpoint) + "\n")
