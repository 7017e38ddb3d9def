from __future__ import annotations

from datetime import timedelta

from bridge.model.decision import Decision
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, LadderId, RetentionClassId, RoleId, RuleId, TemplateId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.store import pages
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from tests.store.conftest import NOW

A_MINUTE = timedelta(minutes=1)


def opening(intake: str, priority: Priority, number: int) -> pages.Opening:
    decision = Decision(
        rule=RuleId(f"rule {number}"),
        role=RoleId("cardiology"),
        priority=priority,
        ladder=LadderId("standard"),
        template=TemplateId("standard"),
        retention=RetentionClassId("standard"),
        why=(),
        config_hash="",
        hold_until=NOW + number * A_MINUTE,
    )
    page = pages.new_page(intake, decision, None, None, NOW)  # type: ignore[arg-type]
    return pages.Opening(page, decision, None)


async def test_of_many_overdue_timers_the_urgent_come_first_however_late_the_others_are(
    database: Database, inbox: IntakeStore
) -> None:
    event = IntakeEvent(ChannelId("sms"), Phi("1"), EventKind.TEXT, Phi("words"))
    intake = (await inbox.accept(event)).intake
    many = [opening(intake, Priority.ROUTINE, number) for number in range(60)]
    stat = opening(intake, Priority.STAT, 60)
    async with database.write() as connection:
        await pages.open_pages(connection, [*many, stat])
    async with database.read() as connection:
        due = await pages.due_timers(connection, NOW + 100 * A_MINUTE, 50)
    assert due[0].page == stat.page.id
    assert [timer.page for timer in due[1:]] == [opened.page.id for opened in many[:49]]


async def test_a_page_whose_ladder_has_ended_can_still_be_snoozed(
    database: Database, inbox: IntakeStore
) -> None:
    event = IntakeEvent(ChannelId("sms"), Phi("2"), EventKind.TEXT, Phi("words"))
    intake = (await inbox.accept(event)).intake
    ended = opening(intake, Priority.URGENT, 0)
    async with database.write() as connection:
        await pages.open_pages(connection, [ended])
        await pages.stop_timer(connection, ended.page.id)
        await pages.wait_until(connection, ended.page, NOW + A_MINUTE)
    async with database.read() as connection:
        assert await pages.next_due(connection) == NOW + A_MINUTE
        assert (await pages.due_timers(connection, NOW + A_MINUTE, 1))[0].step == 1
