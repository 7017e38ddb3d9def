"""A clinician takes back what was said, before its time: keys at once, and then the room."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.ledger import Action, Record
from bridge.model.doors import RoomMessage
from bridge.model.page import Page, PageState
from bridge.policy.retention import held_by
from bridge.store import holds, ledger, loose, matrix_inbox, pages, retention
from bridge.store.keys import KeyRing

WHY = "recalled by a clinician"
WHICH = "Reply with it to the page, or to your own message, that you recall."
HELD = "A legal hold keeps this; it can't be recalled."
GONE = "Its content is gone already."
DONE = "It is recalled: it goes from this room now. What devices have shown may still be there."


async def recall(
    connection: AsyncConnection, keys: KeyRing, said: RoomMessage, page: Page | None, now: datetime
) -> str:
    """Destroy a page's content, or have what somebody wrote themselves redacted. Returns what to say to them."""
    if page is not None:
        return await _recall_page(connection, keys, said, page, now)
    about = said.about
    if about is None or not await matrix_inbox.wrote(connection, said.sender, about, said.room):
        return WHICH
    in_force = await holds.in_force_until_commit(connection)
    beside = await loose.older_than(connection, now, in_force)
    lives = [life for life in [await retention.life_of_words(connection, about)] if life is not None]
    if held_by(in_force, lives) or not await loose.may_go(connection, about, beside):
        return HELD
    await retention.recall_words(connection, about, said.room, WHY, now)
    record = Record(Action.RECALLED, said.sender, objects={"room": said.room, "event": about})
    await ledger.append(connection, [record], now)
    return DONE


async def _recall_page(
    connection: AsyncConnection, keys: KeyRing, said: RoomMessage, page: Page, now: datetime
) -> str:
    life = await retention.life_of(connection, page.id)
    if life is None:
        return GONE
    if held_by(await holds.in_force_until_commit(connection), [life]):
        return HELD
    if page.state is PageState.ACCEPTED:
        await pages.close_page(connection, page.id, now)
    if not await retention.destroy_pages(connection, keys, [(life, WHY)], now):
        return GONE
    recalled = Record(
        Action.RECALLED, said.sender, page=page.id, objects={"room": said.room, "event": said.event}
    )
    destroyed = Record(Action.DESTROYED, page=page.id, objects={"class": life.retention, "why": WHY})
    await ledger.append(connection, [recalled, destroyed], now)
    return DONE
