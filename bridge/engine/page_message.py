"""The page's message: posted once to a room, and by edits always the truth about the page's state.

What has happened to the page stands in the message's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from html import escape

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine.messages import message, replacement
from bridge.engine.situation import destination_of, is_known
from bridge.model.doors import Destination
from bridge.model.event import IntakeEvent
from bridge.model.ids import PageId, UserId
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi
from bridge.model.report import choices_of
from bridge.model.tap import CHOICE_TAPS, Tap
from bridge.policy.commands import SEEDED
from bridge.policy.rendering import PageText, clock, render
from bridge.store import outbox, pages
from bridge.store.inbox import IntakeStore
from bridge.store.outbox import Draft, Purpose
from bridge.vault import Key


def post(
    config: Config,
    page: Page,
    event: IntakeEvent,
    key: Key,
    now: datetime,
    *,
    to: Destination | None = None,
    ring: Sequence[UserId] = (),
) -> list[Draft]:
    """The page's message for a room, its own by default, and the taps to put under it.

    `ring` are those whom a message that is posted anew mentions, since it has rung for the others.
    """
    text = render(config, page, event, now, page.count)
    if ring and text.mentions:
        text = replace(text, mentions=tuple(ring))
    main = Draft(
        to or destination_of(config, page.role, page.room),
        Purpose.PAGE,
        message(text),
        key,
        urgency=page.priority.rank,
        page=page.id,
    )
    taps = (*SEEDED[PageState.OPEN], *CHOICE_TAPS[: len(choices_of(event))])
    return [main, *_taps(taps, page, key, main.destination, main.transaction)]


async def show(
    connection: AsyncConnection,
    inbox: IntakeStore,
    config: Config,
    page_id: PageId,
    now: datetime,
    *,
    note: str | None = None,
) -> None:
    """Put edits of the page's messages, as the page now stands, into the outbox; and a line into their threads.

    Once it is accepted, what can be tapped next is put under it.
    """
    page = await pages.get_page(connection, page_id)
    event, key = await inbox.event_of(connection, page.latest or page.intake)
    content = replacement(render(config, page, event, now, page.count))
    drafts: list[Draft] = []
    for destination, main in await outbox.messages_of(connection, page_id):
        if not is_known(config, destination):
            continue
        urgency = page.priority.rank
        drafts.append(
            Draft(destination, Purpose.STATUS, content, key, urgency=urgency, page=page.id, target=main)
        )
        if note is not None:
            text = f"{clock(now, config.roster.zone(page.role), now)} · {note}"
            said = message(PageText(Phi(text), Phi(escape(text)), (), notice=True))
            drafts.append(
                Draft(destination, Purpose.NOTE, said, key, urgency=urgency, page=page.id, target=main)
            )
        if page.state is PageState.ACCEPTED:
            drafts += _taps(SEEDED[PageState.ACCEPTED], page, key, destination, main)
    await outbox.put(connection, drafts, now)


def _taps(taps: Iterable[Tap], page: Page, key: Key, destination: Destination, main: str) -> list[Draft]:
    return [
        Draft(
            destination,
            Purpose.SEED,
            Phi(tap.value.encode()),
            key,
            event_type="m.reaction",
            urgency=page.priority.rank,
            page=page.id,
            target=main,
        )
        for tap in taps
    ]
