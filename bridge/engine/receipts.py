"""A page is read when the client of somebody whom it notified says so, by a read receipt (Matrix spec, 'Receipts')."""

from __future__ import annotations

from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import page_message
from bridge.engine.desk import Desk
from bridge.ledger import Action, Record
from bridge.model.errors import StoreUnavailableError
from bridge.store import ledger, pages, receipts
from bridge.store.receipts import ReadReceipt

BATCH = 50
# People can be quicker than the homeserver's answer to us: what they have read is soon known.
PATIENCE = timedelta(minutes=1)
LOOK_AGAIN_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Receipts:
    """Acts on each stored receipt once. What it does is shown in the page, and rings nobody."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def step(self) -> float | None:
        """Mark what the receipts cover. Returns 0 if more may wait, None if none do."""
        async with self._desk.database.read() as connection:
            known = await receipts.known_receipts(connection, BATCH)
            waiting = await receipts.count_receipts(connection)
        if not waiting:
            return None
        for receipt in known:
            await self._take(receipt)
        async with self._desk.database.write() as connection:
            await receipts.drop_receipts_before(connection, self._desk.now() - PATIENCE)
        if known:
            self._desk.bells.deliver.ring()
        return 0 if len(known) == BATCH else LOOK_AGAIN_SECONDS

    async def _take(self, receipt: ReadReceipt) -> None:
        try:
            async with self._desk.database.write() as connection:
                await self._mark(connection, receipt)
                await receipts.drop_receipt(connection, receipt)
        except StoreUnavailableError:
            raise
        except Exception as error:
            # One page whose content is destroyed, say, must not keep the others from being read.
            log.exception("receipt_failed", room=receipt.room, error=type(error).__name__)
            async with self._desk.database.write() as connection:
                await receipts.drop_receipt(connection, receipt)

    async def _mark(self, connection: AsyncConnection, receipt: ReadReceipt) -> None:
        config, now = self._desk.rulebook().config, self._desk.now()
        person = config.roster.person_of(receipt.user)
        if person is None:
            return
        for page in await pages.unread_pages(connection, config.roster.roles, receipt.room, receipt.covers):
            if person not in page.notified or not await pages.mark_read(connection, page.id):
                continue
            objects = {"room": receipt.room, "event": receipt.event}
            await ledger.append(connection, [Record(Action.READ, receipt.user, page.id, objects)], now)
            await page_message.show(connection, self._desk.inbox, config, page.id, now)
            log.info("page_read", page=page.id, by=receipt.user)
