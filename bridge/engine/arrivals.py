"""Who comes into a room after a page was posted there can't see it: it is posted anew for whom it notified."""

from __future__ import annotations

from collections import defaultdict

import structlog

from bridge.engine import page_message
from bridge.engine.desk import Desk
from bridge.model.doors import Destination
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import PageId, UserId
from bridge.store import outbox, pages

log = structlog.get_logger(__name__)


class Arrivals:
    """Looks whether somebody whom a page notified has joined its room since; what it posts counts as seen by them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def step(self) -> float | None:
        """Post what was missed."""
        roster = self._desk.rulebook().config.roster
        async with self._desk.database.read() as connection:
            missed = await pages.missed_pages(connection, roster.roles)
        newcomers: dict[tuple[PageId, Destination], set[UserId]] = defaultdict(set)
        for page, destination, user in missed:
            if roster.person_of(user) in page.notified:
                newcomers[page.id, destination].add(user)
        for (page_id, destination), users in newcomers.items():
            try:
                await self._post(page_id, destination, users)
            except StoreUnavailableError:
                raise
            except Exception as error:
                # One page whose content is destroyed, say, must not keep the others from being posted.
                log.exception("arrival_failed", page=page_id, error=type(error).__name__)
        return None

    async def _post(self, page_id: PageId, destination: Destination, users: set[UserId]) -> None:
        config, now = self._desk.rulebook().config, self._desk.now()
        async with self._desk.database.write() as connection:
            page = await pages.get_page(connection, page_id, hold=True)
            if not page.state.waiting:
                return
            event, key = await self._desk.inbox.event_of(connection, page.latest or page.intake)
            drafts = page_message.post(config, page, event, key, now, to=destination, ring=sorted(users))
            await outbox.put(connection, drafts, now)
        log.info("page_posted_anew", page=page_id, destination=str(destination), users=sorted(users))
        self._desk.bells.deliver.ring()
