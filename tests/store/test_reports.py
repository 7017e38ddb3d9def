"""What waits to be told, on each database."""

from __future__ import annotations

from datetime import timedelta

from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.model.report import Answered
from bridge.store import replies, reports
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from tests.store.conftest import NOW

DESK = ChannelId("desk")
LATER = NOW + timedelta(seconds=2)


async def taken(inbox: IntakeStore) -> IntakeId:
    caller = Phi("+12025550100")
    return (
        await inbox.accept(IntakeEvent(DESK, Phi("1"), EventKind.TEXT, Phi("hello"), caller=caller))
    ).intake


async def test_what_is_held_is_given_to_its_poller_alone_until_it_is_settled(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    intake = await taken(inbox)
    async with database.write() as connection:
        _, key = await inbox.event_of(connection, intake)
        for words in ("One", "Two"):
            await reports.note_answer(connection, intake, DESK, Answered(Phi(words), None, NOW), key)
        for _ in range(2):
            [due] = await reports.due(connection, keys, [DESK], NOW, 9)
            await reports.hold(connection, due.report.id, "night")
        first, second = await reports.waiting(connection, keys, DESK, "night", now=NOW, limit=9)
        assert [one.report.answer.text for one in (first, second) if one.report.answer] == [
            Phi("One"),
            Phi("Two"),
        ]
        assert await reports.waiting(connection, keys, DESK, "day", now=NOW, limit=9) == []
        assert await reports.held(connection, DESK, "day", {first.number: None}) == []
        [held] = await reports.held(connection, DESK, "night", {first.number: None, 10**17: None})
        await reports.postpone(connection, held.id, LATER, "it answers with the failure 604")
        assert await reports.waiting(connection, keys, DESK, "night", now=NOW, limit=9) == []
        assert await reports.waiting(connection, keys, DESK, "night", now=LATER, limit=9) == [first, second]
        assert await reports.settle(connection, held.id, "done")
        assert not await reports.settle(connection, held.id, "done")
        assert [one.number for one in await reports.unfetched(connection, [DESK], LATER, 9)] == [
            second.number
        ]
        await reports.release(connection, [DESK])
        assert await reports.unfetched(connection, [DESK], LATER, 9) == []
        [again] = await reports.due(connection, keys, [DESK], NOW, 9)
        assert again.report == second.report


async def test_an_answer_is_owed_once_until_it_is_settled(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    intake = await taken(inbox)
    async with database.write() as connection:
        await replies.give(connection, intake, "We have called a doctor.")
        for _ in range(2):
            await replies.owe(connection, intake, DESK, NOW)
        [owed] = await replies.owed(connection, keys, [DESK], NOW, 9)
        assert (owed.text, owed.begun, owed.event.body) == ("We have called a doctor.", False, Phi("hello"))
        await replies.begin(connection, [intake], NOW)
        [owed] = await replies.owed(connection, keys, [DESK], NOW, 9)
        assert owed.begun
        await replies.put_off(connection, intake, LATER, "it gave no answer", surely=False)
        assert await replies.too_late(connection, LATER, 9) == [(intake, True)]
        await replies.put_off(connection, intake, LATER, "it answers 503", surely=True)
        assert await replies.owed(connection, keys, [DESK], NOW, 9) == []
        [owed] = await replies.owed(connection, keys, [DESK], LATER, 9)
        assert (owed.begun, owed.attempts) == (False, 2)
        assert await replies.too_late(connection, NOW, 9) == []
        assert await replies.too_late(connection, LATER, 9) == [(intake, False)]
        assert await replies.settle(connection, intake, "done")
        assert not await replies.settle(connection, intake, "done")
        assert await replies.too_late(connection, LATER, 9) == []
