"""Vouches for the ledger from time to time: a signature in the database, and the same one kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from bridge.engine import operations
from bridge.engine.rulebook import Clock
from bridge.ledger import Head, LedgerChangedError, checkpoint_line
from bridge.model.doors import Anchor, Destination
from bridge.model.errors import AnchorError
from bridge.store import ledger
from bridge.store.database import Database
from bridge.store.keys import KeyRing

ANCHOR_PAUSE = timedelta(minutes=1)  # after a failure
CHAIN = "ledger"
ADVICE = "Keep the database as it is, and compare an export with an earlier one and with what anchors hold."

log = structlog.get_logger(__name__)


class Notary:
    """Signs where the chain stands whenever it has grown for long enough, and has its anchors keep the signature."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        *,
        every: timedelta,
        anchors: Sequence[Anchor],
        posts_to: Destination | None = None,
        now: Clock,
        beat: Callable[[str, BaseException | None], None],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._keys = keys
        self._every = every
        self._anchors = anchors
        self._posts_to = posts_to
        self._now = now
        self._beat = beat
        self._wake = wake
        self._signed: Head | None = None  # the last signature of this process
        self._retry_at: dict[str, datetime] = {}

    async def step(self) -> float | None:
        """Sign what is not signed yet, if the last signature is old enough. Returns when to look again."""
        now = self._now()
        async with self._database.read() as connection:
            last = await ledger.last_checkpoint(connection)
            anew = await ledger.has_unsigned(connection, beside=self._posts_to)
        wait = (last.at + self._every - now).total_seconds() if last else 0.0
        if wait <= 0:
            if anew and self._retry_at.get(CHAIN, now) <= now:
                await self._sign(now)
            wait = self._every.total_seconds()
        for anchor in self._anchors:
            if self._retry_at.get(anchor.kind, now) <= now:
                await self._keep(anchor)
        return wait

    async def _sign(self, now: datetime) -> None:
        """Vouch for what has come. If somebody has changed it, operations are told, and nothing is signed."""
        signer = self._keys.signer()
        try:
            async with self._database.read() as connection:
                place = await ledger.intact(connection, signer.public_key(), self._signed)
        except LedgerChangedError as error:
            log.error("ledger_changed", reason=str(error))  # noqa: TRY400 - its words are all
            self._beat(CHAIN, error)
            if CHAIN not in self._retry_at:
                await self._tell(
                    f"⚠️ The ledger was changed by somebody else: {error}. It is not signed. {ADVICE}"
                )
            self._retry_at[CHAIN] = now + ANCHOR_PAUSE
            return
        async with self._database.write() as connection:
            signed = await ledger.checkpoint(connection, signer, now, place)
        self._beat(CHAIN, None)
        self._retry_at.pop(CHAIN, None)
        if signed is not None:
            self._signed = signed.head
            log.info("ledger_signed", record=signed.head.seq)

    async def _keep(self, anchor: Anchor) -> None:
        async with self._database.read() as connection:
            newest = await ledger.unanchored(connection, anchor.kind)
        if newest is None:
            return
        try:
            receipt = await anchor.keep(checkpoint_line(newest))
        except AnchorError as error:
            log.warning("ledger_not_anchored", anchor=anchor.kind, reason=str(error))
            self._beat(f"anchor {anchor.kind}", error)
            if anchor.kind not in self._retry_at:
                await self._tell(f"⚠️ The ledger's signature could not be kept elsewhere: {error}")
            self._retry_at[anchor.kind] = self._now() + ANCHOR_PAUSE
            return
        async with self._database.write() as connection:
            await ledger.mark_anchored(connection, anchor.kind, newest, self._now(), receipt)
        log.info("ledger_anchored", anchor=anchor.kind, record=newest.head.seq)
        self._beat(f"anchor {anchor.kind}", None)
        if self._retry_at.pop(anchor.kind, None) is not None:
            await self._tell(f"The ledger's signatures are kept elsewhere again ({anchor.kind})")

    async def _tell(self, text: str) -> None:
        async with self._database.write() as connection:
            await operations.tell(connection, self._keys, text, self._now())
        self._wake()
