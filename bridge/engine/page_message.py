"""The page's message: posted once to a room, and by edits always the truth about the page's state."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine.messages import message, replacement
from bridge.model.doors import Destination
from bridge.model.event import IntakeEvent
from bridge.model.ids import PageId
from bridge.model.page import Page
from bridge.model.phi import Phi
from bridge.model.tap import Tap
from bridge.policy.rendering import render
from bridge.store import outbox, pages
from bridge.store.inbox import IntakeStore
from bridge.store.outbox import Draft, Purpose
from bridge.vault import Key


def post(
    config: Config, page: Page, event: IntakeEvent, key: Key, now: datetime, *, to: Destination | None = None
) -> list[Draft]:
    """The page's message for a room, its own role's by default, and a tap to put under it."""
    main = Draft(
        to or Destination(page.role),
        Purpose.PAGE,
        message(render(config, page, event, now)),
        key,
        urgency=page.priority.rank,
        page=page.id,
    )
    tap = Draft(
        main.destination,
        Purpose.SEED,
        Phi(Tap.ACCEPT.value.encode()),
        key,
        event_type="m.reaction",
        urgency=page.priority.rank,
        page=page.id,
        target=main.transaction,
    )
    return [main, tap]


async def show(
    connection: AsyncConnection, inbox: IntakeStore, config: Config, page_id: PageId, now: datetime
) -> None:
    """Put edits of the page's messages, as the page now stands, into the outbox."""
    page = await pages.get_page(connection, page_id)
    event, key = await inbox.event_of(connection, page.intake)
    content = replacement(render(config, page, event, now))
    edits = [
        Draft(
            destination, Purpose.STATUS, content, key, urgency=page.priority.rank, page=page.id, target=main
        )
        for destination, main in (await outbox.messages_of(connection, page_id)).items()
    ]
    await outbox.put(connection, edits, now)
