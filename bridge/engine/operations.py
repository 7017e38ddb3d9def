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
from bridge.store import outbox
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
