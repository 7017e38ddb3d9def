"""From the inbox to pages: an event's decision, page, messages and timer are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from bridge.engine import operations, page_message
from bridge.engine.rulebook import Clock, CurrentRulebook
from bridge.model.event import IntakeEvent
from bridge.model.ids import RetentionClassId
from bridge.model.phi import Phi
from bridge.policy import ladder
from bridge.policy.rendering import render_move
from bridge.policy.routing import route
from bridge.store import outbox, pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeRow, IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft
from bridge.store.pages import Opening
from bridge.vault import Key

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
        """Route what waits, all of it in one transaction. Returns 0 if more may wait, else None."""
        async with self._database.read() as connection:
            waiting = await self._inbox.waiting(connection, BATCH)
        if not waiting:
            return None
        now = self._now()
        work = _Work()
        for row in waiting:
            if row.event is not None:
                self._route(work, row, row.event, now)
            else:
                work.drafts.append(_shown(row))
        async with self._database.write() as connection:
            await self._keys.reclassify(connection, work.classes, now)
            await pages.open_pages(connection, work.openings)
            await outbox.put(connection, work.drafts, now)
            await self._inbox.mark_routed(connection, [row.id for row in waiting])
        self._wake()
        for page in (opening.page for opening in work.openings):
            log.info(
                "page_opened", page=page.id, rule=page.rule, role=page.role, priority=page.priority.value
            )
        return 0 if len(waiting) == BATCH else None

    def _route(self, work: _Work, row: IntakeRow, event: IntakeEvent, now: datetime) -> None:
        book = self._rulebook()
        routing = route(book.router, event, now)
        work.classes.append((row.key, routing.primary.retention))
        for decision in routing.all:
            move = ladder.open_page(book.config, decision, now)
            opening = pages.new_page(row.id, decision, move, now)
            work.openings.append(opening)
            work.drafts += page_message.post(book.config, opening.page, event, row.key, now)
            if not move.notify:
                text = render_move(book.config, opening.page, move, now).plain.reveal()
                work.drafts.append(operations.notice(text, row.key, page=opening.page.id))


@dataclass(slots=True)
class _Work:
    """What a batch of events becomes."""

    classes: list[tuple[Key, RetentionClassId]] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)


def _shown(row: IntakeRow) -> Draft:
    assert row.raw is not None  # noqa: S101 - a row without an event has its raw request
    raw = row.raw.reveal()
    shown = raw.decode("utf-8", "replace")[:QUOTED_CHARACTERS]
    text = f"{row.channel}: a request could not be read ({row.reason}). It is kept; {len(raw)} bytes:"
    log.warning("request_unreadable", channel=row.channel, intake=row.id, reason=row.reason)
    return operations.notice(text, row.key, quoted=Phi(shown))
