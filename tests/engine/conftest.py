"""A bridge's rows without its doors and rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bridge.engine.adoption import adopt
from bridge.engine.desk import Desk
from bridge.engine.dispatch import Dispatch
from bridge.engine.escalate import Escalation
from bridge.engine.rulebook import LiveRulebook, Rulebook
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.page import Page
from bridge.model.phi import Phi
from bridge.store import outbox, pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.tables import outbox as outbox_table
from bridge.vault import Vault
from tests.desk import desk
from tests.policy.hospital import hospital, role

DUTY = {"rules": [{"when": {"words": "pain"}, "then": {"role": "duty"}}], "roles": {"duty": role("Duty")}}


@dataclass
class House:
    """A bridge's rows, and a clock that the test sets."""

    desk: Desk
    clock: list[datetime]

    @property
    def database(self) -> Database:
        return self.desk.database

    @property
    def keys(self) -> KeyRing:
        return self.desk.keys

    @property
    def inbox(self) -> IntakeStore:
        return self.desk.inbox

    @property
    def live(self) -> LiveRulebook:
        return self.desk.rulebook

    def now(self) -> datetime:
        return self.clock[0]

    async def text(self, body: str) -> Page:
        await self.inbox.accept(
            IntakeEvent(ChannelId("sms"), Phi(body), EventKind.TEXT, Phi(body), caller=Phi("+15550200"))
        )
        await Dispatch(self.desk).step()
        return (await self.pages())[-1]

    async def restart(self, **changes: Any) -> None:
        self.live.replace(Rulebook.of(hospital(**changes)))
        await adopt(self.desk, self.now())

    async def climb(self, **later: int) -> None:
        self.clock[0] += timedelta(**later)
        await Escalation(self.desk).step()

    async def pages(self) -> list[Page]:
        async with self.database.read() as connection:
            return sorted(await pages.unanswered(connection), key=lambda page: page.opened_at)

    async def waiting(self, destination: str) -> list[str]:
        """What waits to be said somewhere, by its purpose."""
        query = select(outbox_table.c.purpose).where(
            outbox_table.c.destination == destination, outbox_table.c.state.in_(outbox.WAITING)
        )
        async with self.database.read() as connection:
            return list((await connection.execute(query)).scalars())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    clock = [datetime(2026, 11, 24, 3, 12, tzinfo=UTC)]
    live = LiveRulebook(Rulebook.of(hospital(**DUTY)))
    await keys.claim(database, clock[0])
    yield House(desk(database, keys, lambda: clock[0], live), clock)
    await database.close()
