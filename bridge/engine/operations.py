"""What the operations room is told: everything that needs a human and is no page."""

from __future__ import annotations

from datetime import datetime
from html import escape

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine.messages import message
from bridge.model.doors import OPERATIONS
from bridge.model.ids import PageId, RetentionClassId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.rendering import PageText
from bridge.store import outbox
from bridge.store.keys import KeyRing
from bridge.store.outbox import Purpose
from bridge.vault import Key

OPERATIONS_CLASS = RetentionClassId("operations")


async def tell(
    connection: AsyncConnection,
    keys: KeyRing,
    text: str,
    now: datetime,
    *,
    quoted: Phi[str] | None = None,
    key: Key | None = None,
    page: PageId | None = None,
) -> None:
    """Put a line for the operations room into the outbox; `quoted` is content that it should show below."""
    plain, html = text, escape(text)
    if quoted is not None:
        plain += f"\n\n{quoted.reveal()}"
        html += f"<pre><code>{escape(quoted.reveal())}</code></pre>"
    await outbox.put(
        connection,
        destination=OPERATIONS,
        purpose=Purpose.NOTICE,
        event_type="m.room.message",
        content=message(PageText(Phi(plain), Phi(html), (), notice=False)),
        key=key or await keys.new_data_key(connection, OPERATIONS_CLASS, now),
        now=now,
        urgency=Priority.URGENT.rank,
        page=page,
    )
