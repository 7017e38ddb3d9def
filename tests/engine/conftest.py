"""A bridge's rows without its doors and rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bridge.engine.adoption import Adoption, adopt
from bridge.engine.dispatch import Dispatch
from bridge.engine.escalate import Escalation
from bridge.engine.rulebook import LiveRulebook, Rulebook
from bridge.engine.situation import Situation
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
from tests.policy.hospital import hospital, role

DUTY = {"rules": [{"when": {"words": "pain"}, "then": {"role": "duty"}}], "roles": {"duty": role("Duty")}}


@dataclass
class House:
    """A bridge's rows, and a clock that the test sets."""

    database: Database
    keys: KeyRing
    inbox: IntakeStore
    live: LiveRulebook
    situation: Situation
    clock: list[datetime] = field(default_factory=lambda: [datetime(2026, 11, 24, 3, 12, tzinfo=UTC)])

    def now(self) -> datetime:
        return self.clock[0]

    async def text(self, body: str) -> Page:
        await self.inbox.accept(
            IntakeEvent(ChannelId("sms"), Phi(body), EventKind.TEXT, Phi(body), caller=Phi("+15550200"))
        )
        parts = (self.database, self.keys, self.inbox, self.live, self.situation)
        await Dispatch(*parts, now=self.now, wake=lambda: None).step()
        return (await self.pages())[-1]

    async def restart(self, **changes: Any) -> None:
        config = hospital(**changes)
        self.live.replace(Rulebook.of(config))
        await adopt(Adoption(self.database, self.keys, self.inbox, config, self.situation), self.now())

    async def climb(self, **later: int) -> None:
        self.clock[0] += timedelta(**later)
        parts = (self.database, self.keys, self.inbox, self.live, self.situation)
        await Escalation(*parts, now=self.now, wake=lambda: None).step()

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
    made: list[House] = []

    def now() -> datetime:
        return made[0].now()

    live = LiveRulebook(Rulebook.of(hospital(**DUTY)))
    made.append(House(database, keys, IntakeStore(database, keys, now, lambda: None), live, Situation(now)))
    await keys.claim(database, now())
    yield made[0]
    await database.close()
