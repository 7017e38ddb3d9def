"""What the source of a page hears of it, on real rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from bridge.engine.dispatch import Dispatch
from bridge.engine.reports import FETCHED_WITHIN, PATIENCE, Reports, received, waiting
from bridge.model.errors import ReportError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId, UserId
from bridge.model.page import Page
from bridge.model.phi import Phi
from bridge.model.progress import Progress
from bridge.model.report import Answered, Fetches, Report, Waiting
from bridge.store import pages, reports
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.retention import destroy_intakes
from bridge.store.tables import intake, ledger, report
from bridge.vault import Vault
from tests.desk import desk

DESK = ChannelId("desk")


@dataclass
class Exchange:
    """A bridge's rows, and a source that hears; `fails` is what comes of the next attempts."""

    database: Database
    keys: KeyRing
    now: datetime = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
    heard: list[Report] = field(default_factory=list)
    fails: list[ReportError] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)
    poller: str = ""

    async def hear(self, told: Report) -> bool | Fetches:
        if self.poller:
            return Fetches(self.poller)
        self.heard.append(told)
        if self.fails:
            raise self.fails.pop(0)
        return True

    async def tell(self, _channel: ChannelId, trouble: str | None) -> None:
        self.troubles.append(trouble)

    @property
    def inbox(self) -> IntakeStore:
        return IntakeStore(self.database, self.keys, lambda: self.now, lambda: None)

    async def page(self, key: str = "1") -> IntakeId:
        event = IntakeEvent(DESK, Phi(key), EventKind.PAGE, Phi("Chest pain"))
        receipt = await self.inbox.accept(event)
        await Dispatch(desk(self.database, self.keys, lambda: self.now)).step()
        return receipt.intake

    async def page_of(self) -> Page:
        async with self.database.read() as connection:
            [page] = await pages.unanswered(connection)
        return page

    async def deliver(self) -> None:
        page = await self.page_of()
        async with self.database.write() as connection:
            await pages.mark_delivered(connection, [page.id], self.now)

    async def accept(self) -> None:
        page = await self.page_of()
        async with self.database.write() as connection:
            await pages.accept_page(connection, page.id, UserId("@ada:x"), self.now)

    async def answer(self, about: IntakeId, words: str) -> None:
        async with self.database.write() as connection:
            _, key = await self.inbox.event_of(connection, about)
            await reports.note_answer(connection, about, DESK, Answered(Phi(words), None, self.now), key)

    async def fetch(self, most: int = 9, *, poller: str = "night") -> list[Waiting]:
        return await waiting(DESK, poller, most, database=self.database, keys=self.keys, now=lambda: self.now)

    async def take(
        self, given: list[Waiting], error: ReportError | None = None, *, poller: str = "night"
    ) -> None:
        verdicts = {one.number: error for one in given}
        await received(DESK, poller, verdicts, database=self.database, now=lambda: self.now)

    async def step(self) -> None:
        """What a bridge does that has just been started."""
        loop = Reports(self.database, self.keys, {DESK: self.hear}, now=lambda: self.now, tell=self.tell)
        while await loop.step() == 0:
            pass

    def kinds(self) -> list[str]:
        return [told.kind.value for told in self.heard]


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    made = Exchange(database, keys)
    await keys.claim(database, made.now)
    yield made
    await database.close()


async def test_a_source_hears_each_step_of_its_page_once_and_in_order(exchange: Exchange) -> None:
    await exchange.page()
    await exchange.step()
    assert exchange.kinds() == ["queued"]
    await exchange.deliver()
    await exchange.accept()
    for _ in range(2):
        await exchange.step()
    assert exchange.kinds() == ["queued", "delivered", "read"]


async def test_what_a_source_did_not_take_is_told_again_under_the_same_id_before_what_came_later(
    exchange: Exchange,
) -> None:
    exchange.fails = [ReportError("it answers 500", retry=True)] * 2
    about = await exchange.page()
    await exchange.step()
    await exchange.answer(about, "On my way")
    exchange.now += timedelta(seconds=3)
    await exchange.step()
    assert exchange.kinds() == ["queued", "queued"]
    exchange.now += timedelta(seconds=10)
    await exchange.step()
    assert exchange.kinds() == ["queued", "queued", "queued", "answer"]
    assert len({told.id for told in exchange.heard[:3]}) == 1
    told = exchange.heard[3].answer
    assert told is not None
    assert told.text == Phi("On my way")
    assert [trouble is not None for trouble in exchange.troubles] == [True, True]  # once for each start


async def test_operations_hear_that_a_source_takes_nothing_and_that_it_takes_things_again(
    exchange: Exchange,
) -> None:
    loop = Reports(
        exchange.database, exchange.keys, {DESK: exchange.hear}, now=lambda: exchange.now, tell=exchange.tell
    )
    exchange.fails = [ReportError("it answers 500", retry=True)] * 2
    await exchange.page()
    for _ in range(3):
        await loop.step()
        exchange.now += timedelta(seconds=10)
    assert exchange.troubles == [
        "the sender of a page can't be told what became of it (it answers 500); it is told again",
        None,
    ]


@pytest.mark.parametrize("patient", [True, False])
async def test_what_can_not_be_told_keeps_nothing_else_back(exchange: Exchange, *, patient: bool) -> None:
    exchange.fails = [ReportError("it answers 300", retry=patient)]
    about = await exchange.page()
    await exchange.step()
    if patient:
        exchange.fails = [ReportError("it answers 500", retry=True)]
        exchange.now += PATIENCE + timedelta(seconds=1)
        await exchange.step()
    await exchange.answer(about, "On my way")
    await exchange.step()
    assert exchange.kinds()[-1] == "answer"


async def test_a_source_that_asks_gets_the_answers_in_their_order(exchange: Exchange) -> None:
    about = await exchange.page()
    for words in ("One", "Two"):
        await exchange.answer(about, words)
    await exchange.deliver()
    async with exchange.database.read() as connection:
        standing = await reports.standing_of(connection, exchange.keys, DESK, about)
        elsewhere = await reports.standing_of(connection, exchange.keys, ChannelId("other"), about)
    assert standing is not None
    assert (standing.progress, [answer.text for answer in standing.answers]) == (
        Progress.DELIVERED,
        [Phi("One"), Phi("Two")],
    )
    assert elsewhere is None


async def test_a_source_that_dropped_an_event_is_told_nothing_of_it(exchange: Exchange) -> None:
    about = await exchange.page()
    for _ in range(2):
        async with exchange.database.write() as connection:
            await reports.drop(connection, DESK, about, exchange.now)
    async with exchange.database.read() as connection:
        assert await reports.standing_of(connection, exchange.keys, DESK, about) is None


async def test_an_answer_goes_with_the_event_that_it_answers(exchange: Exchange) -> None:
    about = await exchange.page()
    await exchange.answer(about, "Kanarienvogel")
    async with exchange.database.write() as connection:
        query = select(intake.c.id, intake.c.data_key).where(intake.c.id == about)
        rows = (await connection.execute(query)).all()
        await destroy_intakes(connection, exchange.keys, rows, {}, exchange.now)
        [kept] = (await connection.execute(select(report))).all()
    assert (kept.sealed, kept.state) == (None, "failed")
    await exchange.step()
    assert exchange.heard == []


def told_by(given: list[Waiting]) -> list[str]:
    return [one.report.kind.value for one in given]


@pytest.fixture
async def polled(exchange: Exchange) -> Exchange:
    """An exchange whose source polls. A page has been delivered, and answered."""
    exchange.poller = "night"
    about = await exchange.page()
    await exchange.deliver()
    await exchange.answer(about, "On my way")
    await exchange.step()
    return exchange


async def test_what_a_poller_was_given_is_given_again_until_it_says_that_it_has_it(polled: Exchange) -> None:
    first = await polled.fetch()
    assert sorted(told_by(first)) == ["answer", "delivered", "queued"]
    await polled.step()
    assert await polled.fetch() == first
    await polled.take(first[:2])
    assert await polled.fetch() == first[2:]
    for _ in range(2):
        await polled.take(first)
    assert await polled.fetch() == []
    async with polled.database.read() as connection:
        told = await connection.execute(select(ledger.c.outcome).where(ledger.c.action == "reported"))
        assert list(told.scalars()) == ["told"] * 3


async def test_a_poller_is_given_as_much_as_it_takes_and_nothing_of_others(polled: Exchange) -> None:
    assert len(await polled.fetch(2)) == 2
    assert await polled.fetch(poller="day") == []
    given = await polled.fetch()
    await polled.take(given, poller="day")
    assert await polled.fetch() == given


async def test_what_a_poller_can_not_take_yet_comes_again_before_what_came_later(polled: Exchange) -> None:
    given = await polled.fetch()
    await polled.take(given[:1], ReportError("it answers with the failure 604", retry=True))
    assert await polled.fetch() == []
    polled.now += timedelta(seconds=3)
    assert await polled.fetch() == given


async def test_what_a_poller_refuses_for_good_is_given_no_more(polled: Exchange) -> None:
    given = await polled.fetch()
    await polled.take(given[:1], ReportError("it answers with the failure 300", retry=False))
    assert await polled.fetch() == given[1:]


async def test_operations_hear_that_nobody_fetches_and_that_somebody_does_again(polled: Exchange) -> None:
    loop = Reports(
        polled.database, polled.keys, {DESK: polled.hear}, now=lambda: polled.now, tell=polled.tell
    )
    await loop.step()
    assert polled.troubles == []
    polled.now += FETCHED_WITHIN + timedelta(seconds=1)
    for _ in range(2):
        await loop.step()
    [trouble] = polled.troubles
    assert trouble is not None
    assert trouble.startswith("night has not taken what became of a page for 15 minutes")
    await polled.take(await polled.fetch())
    await loop.step()
    assert polled.troubles == [trouble, None]


async def test_who_polled_before_a_start_and_is_told_by_push_after_it_hears_what_was_not_fetched(
    polled: Exchange,
) -> None:
    polled.poller = ""
    await polled.step()
    assert sorted(polled.kinds()) == ["answer", "delivered", "queued"]
    assert await polled.fetch() == []


async def test_what_nobody_fetches_for_three_days_is_given_up(polled: Exchange) -> None:
    polled.now += PATIENCE + timedelta(seconds=1)
    await polled.step()
    assert await polled.fetch() == []
    async with polled.database.read() as connection:
        rows = (await connection.execute(select(report.c.state, report.c.error))).all()
    assert set(rows) == {("failed", "nobody fetched it")}


async def test_what_was_not_fetched_when_its_content_is_destroyed_goes_with_it(polled: Exchange) -> None:
    async with polled.database.write() as connection:
        rows = (await connection.execute(select(intake.c.id, intake.c.data_key))).all()
        await destroy_intakes(connection, polled.keys, rows, {}, polled.now)
    assert await polled.fetch() == []
    async with polled.database.read() as connection:
        assert set((await connection.execute(select(report.c.state))).scalars()) == {"failed"}
