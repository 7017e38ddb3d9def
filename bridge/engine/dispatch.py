"""From the inbox to pages: each event gets its decision, its page, its messages and its timer in one transaction."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import operations, page_message
from bridge.engine.rulebook import Clock, CurrentRulebook, Rulebook
from bridge.model.decision import Decision
from bridge.model.event import IntakeEvent
from bridge.model.phi import Phi
from bridge.policy import ladder
from bridge.policy.rendering import render_move
from bridge.policy.routing import route
from bridge.store import pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeRow, IntakeStore
from bridge.store.keys import KeyRing

BATCH = 50
QUOTED_CHARACTERS = 2_000  # of an unreadable request; the whole of it stays in the vault

log = structlog.get_logger(__name__)


class Dispatch:
    """Takes events in the order in which they were accepted."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        inbox: IntakeStore,
        rulebook: CurrentRulebook,
        *,
        now: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._keys = keys
        self._inbox = inbox
        self._rulebook = rulebook
        self._now = now
        self._wake = wake

    async def step(self) -> float | None:
        """Route what waits. Returns 0 if more may wait, else None."""
        async with self._database.read() as connection:
            waiting = await self._inbox.waiting(connection, BATCH)
        for row in waiting:
            async with self._database.write() as connection:
                if row.event is not None:
                    await self._route(connection, row, row.event)
                else:
                    await self._show(connection, row)
                await self._inbox.mark_routed(connection, row.id)
            self._wake()
        return 0 if len(waiting) == BATCH else None

    async def _route(self, connection: AsyncConnection, row: IntakeRow, event: IntakeEvent) -> None:
        book, now = self._rulebook(), self._now()
        routing = route(book.router, event, now)
        await self._keys.reclassify(connection, row.key.id, routing.primary.retention, now)
        for decision in routing.all:
            await self._open(connection, row, event, decision, book)

    async def _open(
        self,
        connection: AsyncConnection,
        row: IntakeRow,
        event: IntakeEvent,
        decision: Decision,
        book: Rulebook,
    ) -> None:
        now = self._now()
        move = ladder.open_page(book.config, decision, now)
        page = await pages.open_page(connection, row.id, decision, move, now)
        await page_message.post(connection, book.config, page, event, key=row.key, now=now)
        if not move.notify:
            text = render_move(book.config, page, move, now).plain.reveal()
            await operations.tell(connection, self._keys, text, now, key=row.key, page=page.id)
        log.info(
            "page_opened", page=page.id, rule=decision.rule, role=page.role, priority=page.priority.value
        )

    async def _show(self, connection: AsyncConnection, row: IntakeRow) -> None:
        assert row.raw is not None  # noqa: S101 - a row without an event has its raw request
        raw = row.raw.reveal()
        shown = raw.decode("utf-8", "replace")[:QUOTED_CHARACTERS]
        text = f"{row.channel}: a request could not be read ({row.reason}). It is kept; {len(raw)} bytes:"
        await operations.tell(connection, self._keys, text, self._now(), quoted=Phi(shown), key=row.key)
        log.warning("request_unreadable", channel=row.channel, intake=row.id, reason=row.reason)
