"""Timers: a page that nobody has accepted climbs its ladder, to the second, and after an outage at once."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import operations, page_message
from bridge.engine.messages import message
from bridge.engine.rulebook import Clock, CurrentRulebook
from bridge.model.decision import StepKind
from bridge.model.doors import Destination
from bridge.policy import ladder
from bridge.policy.rendering import render_move
from bridge.store import outbox, pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose
from bridge.store.pages import DueTimer

BATCH = 50

log = structlog.get_logger(__name__)


class Escalation:
    """Fires each timer once; a step and the messages of it are one transaction."""

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
        """Climb what is due. Returns the seconds until the next timer."""
        async with self._database.read() as connection:
            due = await pages.due_timers(connection, self._now(), BATCH)
        for timer in due:
            async with self._database.write() as connection:
                await self._climb(connection, timer)
            self._wake()
        async with self._database.read() as connection:
            following = await pages.next_due(connection)
        return None if following is None else max(0.0, (following - self._now()).total_seconds())

    async def _climb(self, connection: AsyncConnection, timer: DueTimer) -> None:
        config, now = self._rulebook().config, self._now()
        page = await pages.get_page(connection, timer.page)
        if not page.state.waiting:
            await pages.stop_timer(connection, page.id)
            return
        move = ladder.climb(config, page, now, due=timer.due_at)
        await pages.record_move(connection, page, move)
        event, key = await self._inbox.event_of(connection, page.intake)
        text = render_move(config, page, move, now)
        if move.kind is StepKind.OPERATIONS or not move.notify:
            drafts = [operations.notice(text.plain.reveal(), key, page=page.id)]
        else:
            drafts = []
            destination = Destination(move.role)
            main = (await outbox.messages_of(connection, page.id)).get(destination)
            if main is None:
                # Another role's room has not seen the page: it gets the whole of it, to edit like the first.
                drafts = page_message.post(config, page, event, key, now, to=destination)
                main = drafts[0].transaction
            urgency = page.priority.rank
            drafts.append(
                Draft(
                    destination, Purpose.NUDGE, message(text), key, urgency=urgency, page=page.id, target=main
                )
            )
        await outbox.put(connection, drafts, now)
        await page_message.show(connection, self._inbox, config, page.id, now)
        log.info(
            "page_climbed",
            page=page.id,
            step=move.step,
            kind=move.kind.value if move.kind else "end",
            notified=list(move.notify),
            late_seconds=move.late_by.total_seconds(),
        )
