"""A bridge that starts on files without what its open pages need, on real rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
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
from bridge.model.ids import ChannelId, UserId
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi
from bridge.store import outbox, pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.tables import outbox as outbox_table
from bridge.vault import Vault
from tests.policy.hospital import ROUTING, hospital, role

ADA = UserId("@ana:nightbell.test")
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


async def test_a_page_of_a_role_that_is_gone_rings_with_the_fallback_and_climbs_there(house: House) -> None:
    await house.text("chest pain")
    await house.restart()
    [page] = await house.pages()
    assert (page.role, page.notified, page.step) == ("switchboard", ("ana",), 0)
    assert "page" in await house.waiting("role:switchboard")
    assert await house.waiting("role:duty") == []
    assert await house.waiting("operations") == ["notice"]
    await house.climb(minutes=1)
    [page] = await house.pages()
    assert page.step == 1
    assert "nudge" in await house.waiting("role:switchboard")


async def test_it_is_done_once(house: House) -> None:
    await house.text("chest pain")
    for _ in range(2):
        await house.restart()
    assert await house.waiting("operations") == ["notice"]
    assert (await house.waiting("role:switchboard")).count("page") == 1


async def test_a_page_that_somebody_has_accepted_stays_theirs_and_can_be_closed(house: House) -> None:
    page = await house.text("chest pain")
    async with house.database.write() as connection:
        await pages.accept_page(connection, page.id, ADA, house.now())
    await house.restart()
    [page] = await house.pages()
    assert (page.role, page.state, page.accepted_by) == ("switchboard", PageState.ACCEPTED, ADA)
    assert (await house.waiting("role:switchboard")).count("page") == 1
    await house.climb(hours=1)
    assert [page.state for page in await house.pages()] == [PageState.ACCEPTED]


async def test_a_page_whose_ladder_is_gone_begins_that_of_its_role(house: House) -> None:
    steps = [{"after": "9 h", "notify": "operations"}]
    fast = ROUTING["ladders"] | {"slow": {"steps": steps}}
    rules = [{"when": {}, "then": {"role": "duty", "ladder": "slow", "template": "short"}}]
    templates = ROUTING["templates"] | {"short": {"lines": ["{body}"]}}
    house.live.replace(
        Rulebook.of(hospital(**DUTY | {"rules": rules, "ladders": fast, "templates": templates}))
    )
    await house.text("chest pain")
    await house.restart(**DUTY)
    [page] = await house.pages()
    assert (page.role, page.ladder, page.template) == ("duty", "standard", "plain")
    assert "nudge" in await house.waiting("role:duty")
    await house.climb(minutes=1)
    assert [page.step for page in await house.pages()] == [1]


async def test_a_page_that_waits_for_its_hour_rings_at_it_with_the_fallback(house: House) -> None:
    held: dict[str, Any] = {
        "defaults": ROUTING["defaults"] | {"priority": "routine", "quiet_hours": "nights"},
        "quiet_hours": {"nights": {"hours": "22:00-07:00"}},
    }
    house.live.replace(Rulebook.of(hospital(**DUTY | held)))
    await house.text("pain since monday")
    await house.restart(**held)
    [page] = await house.pages()
    assert (page.role, page.held_until) == ("switchboard", datetime(2026, 11, 24, 6, tzinfo=UTC))
    assert await house.waiting("role:switchboard") == []
    await house.climb(hours=3)
    assert "page" in await house.waiting("role:switchboard")


async def test_pages_that_lack_nothing_are_left_alone(house: House) -> None:
    before = await house.text("chest pain")
    await house.restart(**DUTY)
    assert await house.pages() == [before]
    assert await house.waiting("operations") == []


async def test_who_was_notified_and_has_left_the_files_is_passed_over(house: House) -> None:
    await house.text("chest pain")
    others = role(members=["ben", "cleo", "dora"], schedule={"layers": [{"people": "ben"}]})
    changed = dict.fromkeys(("duty", "cardiology", "switchboard"), others)
    files = hospital(**DUTY | {"roles": changed})
    people = {name: person for name, person in files.roster.people.items() if name != "ana"}
    roster = files.roster.model_copy(update={"people": people})
    house.live.replace(Rulebook.of(replace(files, roster=roster)))
    await house.climb(minutes=1)
    [page] = await house.pages()
    assert (page.step, page.notified[-1]) == (2, "ben")
