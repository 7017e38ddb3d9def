"""Pages and their timers: one accept, one step, and no clock that runs on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bridge.model.decision import Decision, Move
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import (
    ChannelId,
    EventId,
    IntakeId,
    LadderId,
    PageId,
    PersonId,
    RetentionClassId,
    RoleId,
    RoomId,
    RuleId,
    TemplateId,
    UserId,
)
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.store import pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.pages import Opening
from tests.store.conftest import NOW

ANN, BEN = UserId("@ann:test"), UserId("@ben:test")
HEART = RoleId("cardiology")
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
async def intake(inbox: IntakeStore) -> IntakeId:
    event = IntakeEvent(ChannelId("sms"), Phi("SM1"), EventKind.TEXT, Phi("Bed 12"))
    return (await inbox.accept(event)).intake


def move(step: int = 0, *people: str, due: bool = True) -> Move:
    notify = tuple(PersonId(person) for person in people or ("ann",))
    return Move(step, None, notify, HEART, LATER + timedelta(minutes=step) if due else None)


async def opened(
    database: Database, intake: IntakeId, rule: str = "r", priority: Priority = Priority.URGENT
) -> PageId:
    decision = Decision(
        rule=RuleId(rule),
        role=HEART,
        priority=priority,
        ladder=LadderId("standard"),
        template=TemplateId("standard"),
        retention=RetentionClassId("standard"),
        why=(),
        config_hash="",
    )
    page = pages.new_page(intake, decision, move(), None, NOW)
    async with database.write() as connection:
        await pages.open_pages(connection, [Opening(page, decision, move())])
    return page.id


async def get(database: Database, page: PageId) -> Page:
    async with database.read() as connection:
        return await pages.get_page(connection, page)


async def accept(database: Database, page: PageId, by: UserId) -> bool:
    async with database.write() as connection:
        return await pages.accept_page(connection, page, by, NOW)


async def test_the_first_to_accept_has_the_page_and_nobody_after(
    database: Database, intake: IntakeId
) -> None:
    page = await opened(database, intake)
    assert await accept(database, page, ANN)
    assert not await accept(database, page, BEN)
    found = await get(database, page)
    assert (found.state, found.accepted_by, found.accepted_at) == (PageState.ACCEPTED, ANN, NOW)


async def test_of_many_who_accept_at_once_one_has_the_page(database: Database, intake: IntakeId) -> None:
    page = await opened(database, intake)
    taken = await asyncio.gather(*(accept(database, page, UserId(f"@p{n}:test")) for n in range(10)))
    assert sorted(taken) == [False] * 9 + [True]


async def test_a_page_that_is_accepted_climbs_no_further(database: Database, intake: IntakeId) -> None:
    page = await opened(database, intake)
    await accept(database, page, ANN)
    async with database.read() as connection:
        assert await pages.due_timers(connection, LATER + timedelta(days=1), 10) == []


async def test_an_accept_that_comes_while_the_page_climbs_stops_it_all_the_same(
    database: Database, intake: IntakeId
) -> None:
    page = await opened(database, intake)
    async with database.write() as connection:
        climbing = await pages.get_page(connection, page, hold=True)
        accepting = asyncio.create_task(accept(database, page, ANN))
        await asyncio.wait({accepting}, timeout=0.5)
        await pages.record_move(connection, climbing, move(1, "ben"))
    assert await accepting
    async with database.read() as connection:
        assert await pages.next_due(connection) is None
    assert (await get(database, page)).state is PageState.ACCEPTED


async def test_a_page_that_climbs_remembers_whom_it_notified_the_latest_last(
    database: Database, intake: IntakeId
) -> None:
    page = await opened(database, intake)
    for step in (move(1, "ben"), move(2, "ann")):
        async with database.write() as connection:
            await pages.record_move(connection, await pages.get_page(connection, page), step)
    found = await get(database, page)
    assert (found.step, found.notified) == (2, ("ben", "ann"))


async def test_timers_are_due_when_their_time_has_come_the_most_urgent_pages_first(
    database: Database, intake: IntakeId
) -> None:
    routine = await opened(database, intake, "a", Priority.ROUTINE)
    stat = await opened(database, intake, "b", Priority.STAT)
    async with database.read() as connection:
        assert await pages.due_timers(connection, LATER - timedelta(microseconds=1), 10) == []
        due = await pages.due_timers(connection, LATER, 10)
        assert [timer.page for timer in due] == [stat, routine]
        assert await pages.next_due(connection) == LATER


async def test_a_page_that_can_reach_nobody_is_due_at_once(database: Database, intake: IntakeId) -> None:
    page = await opened(database, intake)
    async with database.write() as connection:
        await pages.hurry(connection, page, NOW)
        assert [timer.page for timer in await pages.due_timers(connection, NOW, 10)] == [page]


async def test_the_end_of_a_ladder_has_no_timer(database: Database, intake: IntakeId) -> None:
    page = await opened(database, intake)
    async with database.write() as connection:
        await pages.record_move(connection, await pages.get_page(connection, page), move(1, due=False))
        assert await pages.next_due(connection) is None


async def test_a_page_is_delivered_once_and_an_accepted_one_stays_accepted(
    database: Database, intake: IntakeId
) -> None:
    one, other = await opened(database, intake, "a"), await opened(database, intake, "b")
    await accept(database, other, ANN)
    async with database.write() as connection:
        await pages.mark_delivered(connection, [one, other], NOW)
    assert (await get(database, one)).state is PageState.DELIVERED
    assert (await get(database, other)).state is PageState.ACCEPTED


async def test_an_event_makes_one_page_of_a_rule_and_role(database: Database, intake: IntakeId) -> None:
    await opened(database, intake)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await opened(database, intake)


async def test_an_unknown_event_belongs_to_no_page(database: Database, intake: IntakeId) -> None:
    await opened(database, intake)
    async with database.read() as connection:
        assert await pages.page_of_event(connection, EventId("$1"), RoomId("!room")) is None
