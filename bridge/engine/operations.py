"""What the operations room is told: everything that needs a human and is no page."""

from __future__ import annotations

from datetime import datetime
from html import escape

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine.messages import message
from bridge.model.doors import OPERATIONS
from bridge.model.ids import PageId, RetentionClassId
from bridge.model.phi import Phi
from bridge.policy.rendering import PageText, shortened
from bridge.store import outbox, pages
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose
from bridge.vault import Key

OPERATIONS_CLASS = RetentionClassId("operations")


def notice(text: str, key: Key, *, quoted: Phi[str] | None = None, page: PageId | None = None) -> Draft:
    """A line for the operations room; `quoted` is content that it shows below."""
    plain, html = text, escape(text)
    if quoted is not None:
        shown = shortened(quoted.reveal())
        plain += f"\n\n{shown}"
        html += f"<pre><code>{escape(shown)}</code></pre>"
    return Draft(
        OPERATIONS, Purpose.NOTICE, message(PageText(Phi(plain), Phi(html), (), notice=False)), key, page=page
    )


async def tell(
    connection: AsyncConnection, keys: KeyRing, text: str, now: datetime, *, page: PageId | None = None
) -> None:
    """Put a line for the operations room into the outbox, under a key of its own."""
    key = await keys.new_data_key(connection, OPERATIONS_CLASS, now)
    await outbox.put(connection, [notice(text, key, page=page)], now)


async def tell_of_page(
    connection: AsyncConnection, inbox: IntakeStore, page_id: PageId, text: str, now: datetime
) -> None:
    """Show operations what a page says that its own room will never show."""
    page = await pages.get_page(connection, page_id)
    event, key = await inbox.event_of(connection, page.latest or page.intake)
    known = (event.caller_name, event.caller, event.called, event.body)
    said = Phi("\n".join(value.reveal() for value in known if value))
    await outbox.put(connection, [notice(text, key, quoted=said, page=page_id)], now)
