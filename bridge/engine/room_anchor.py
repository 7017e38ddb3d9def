"""A room in which the ledger's signatures stand: its members' devices keep what no administrator can change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import ClassVar

from bridge.engine.messages import message
from bridge.engine.operations import OPERATIONS_CLASS
from bridge.engine.rulebook import Clock
from bridge.model.doors import Destination
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.rendering import PageText
from bridge.store import outbox
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose

SAID = "The ledger stood here. To verify with it, copy the line into a file of its own:"


@dataclass(frozen=True, slots=True)
class RoomAnchor:
    """A room of roles.yaml. The outbox sees to it that the signature comes there, and tells if it can't."""

    kind: ClassVar[str] = "room"

    database: Database
    keys: KeyRing
    room: str
    now: Clock
    wake: Callable[[], None]

    async def keep(self, line: str) -> None:
        """Put the line into the outbox."""
        html = f"{escape(SAID)}<pre><code>{escape(line)}</code></pre>"
        text = PageText(Phi(f"{SAID}\n\n{line}"), Phi(html), (), notice=True)
        now = self.now()
        async with self.database.write() as connection:
            key = await self.keys.new_data_key(connection, OPERATIONS_CLASS, now)
            said = Draft(
                Destination(room=self.room), Purpose.NOTICE, message(text), key, urgency=Priority.ROUTINE.rank
            )
            await outbox.put(connection, [said], now)
        self.wake()
