"""The end of content in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bridge.model.attachment import Attachment
from bridge.model.decision import Decision, Move
from bridge.model.doors import Destination
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import (
    ChannelId,
    EventId,
    IntakeId,
    LadderId,
    RetentionClassId,
    RoleId,
    RoomId,
    RuleId,
    TemplateId,
)
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.retention import Hold, HoldKind, Life
from bridge.store import holds, loose, matrix_inbox, outbox, pages, retention, tables
from bridge.store.database import Database
from bridge.store.inbox import IntakeRow, IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose
from bridge.store.pages import Opening
from bridge.vault import KeyDestroyedError
from tests.store.conftest import NOW

STANDARD = RetentionClassId("standard")
HEART = RoleId("cardiology")
ROOM = RoomId("!heart")
LATER = NOW + timedelta(days=40)


def event(key: str = "1") -> IntakeEvent:
    return IntakeEvent(ChannelId("sms"), Phi(key), EventKind.TEXT, Phi("Bed 12"), caller=Phi("+15550007001"))


async def open_page(
    database: Database, keys: KeyRing, inbox: IntakeStore, key: str = "1", *attachments: Attachment
) -> Life:
    """A page with a message that was sent."""
    receipt = await inbox.accept(replace(event(key), attachments=attachments))
    decision = Decision(
        RuleId("r"), HEART, Priority.URGENT, LadderId("l"), TemplateId("t"), STANDARD, (), "hash"
    )
    move = Move(0, None, (), HEART, NOW + timedelta(minutes=5))
    page = pages.new_page(receipt.intake, decision, move, None, NOW)
    async with database.write() as connection:
        (row,) = [row for row in await inbox.waiting(connection, 10) if row.id == receipt.intake]
        assert isinstance(row, IntakeRow)
        await keys.reclassify(connection, [(row.key, STANDARD)], NOW)
        await pages.open_pages(connection, [Opening(page, decision, move)])
        await inbox.mark_routed(connection, [receipt.intake])
        draft = Draft(Destination(HEART), Purpose.PAGE, Phi(b"{}"), row.key, page=page.id)
        await outbox.put(connection, [draft], NOW)
        entry = await outbox.head(connection, keys, Destination(HEART))
        assert entry is not None
        await outbox.mark_sent(connection, [(entry.id, ROOM, EventId(f"${key}"))], NOW)
    async with database.read() as connection:
        found = await retention.lives(connection, STANDARD, limit=100)
        return next(life for life in found if life.page == page.id)


async def destroy(database: Database, keys: KeyRing, *lives: Life) -> None:
    async with database.write() as connection:
        await retention.destroy_pages(connection, keys, [(life, "its time is up") for life in lives], LATER)


async def count(database: Database, table: str) -> int:
    async with database.read() as connection:
        query = select(func.count()).select_from(tables.metadata.tables[table])
        return int((await connection.execute(query)).scalar_one())


async def intake_of(database: Database, life: Life) -> IntakeId:
    async with database.read() as connection:
        return (await pages.get_page(connection, life.page)).intake


async def test_what_decides_about_a_page_is_read_with_it(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox)
    assert (life.role, life.rooms, life.arrived) == (HEART, frozenset({ROOM}), NOW)
    assert life.caller == keys.lookup("caller", Phi("+15550007001"))


async def test_destroyed_content_does_not_open(database: Database, keys: KeyRing, inbox: IntakeStore) -> None:
    life = await open_page(database, keys, inbox)
    intake = await intake_of(database, life)
    await destroy(database, keys, life)
    async with database.read() as connection:
        with pytest.raises(KeyDestroyedError):
            await inbox.event_of(connection, intake)


async def test_a_days_key_goes_with_its_last_page(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    one, other = [await open_page(database, keys, inbox, key) for key in ("1", "2")]
    before = await count(database, "day_key")
    await destroy(database, keys, one)
    assert await count(database, "day_key") == before
    await destroy(database, keys, other)
    assert await count(database, "day_key") == before - 1
    assert await count(database, "data_key") == 0


async def test_a_whole_backup_of_the_rows_opens_what_lives_and_nothing_that_went(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    gone, lives = [await open_page(database, keys, inbox, key) for key in ("1", "2")]
    events = {life.page: await intake_of(database, life) for life in (gone, lives)}
    # As docs/operator.md has it: the wrapped keys are copied apart, and only their newest copy is kept.
    keys_apart = ("data_key", "day_key", "root_key")  # the last only says which operator's key it was
    copied = [table for table in tables.metadata.sorted_tables if table.name not in keys_apart]
    async with database.read() as connection:
        backup = {each: (await connection.execute(each.select())).mappings().all() for each in copied}
    await destroy(database, keys, gone)
    async with database.write() as connection:
        for table in reversed(copied):
            await connection.execute(table.delete())
        for table, rows in backup.items():
            if rows:
                await connection.execute(table.insert(), [dict(row) for row in rows])
    async with database.read() as connection:
        event, _ = await inbox.event_of(connection, events[lives.page])
        assert event.body == Phi("Bed 12")
        with pytest.raises(KeyDestroyedError):
            await inbox.event_of(connection, events[gone.page])


async def test_an_event_that_a_page_has_joined_goes_with_it(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox)
    again = await inbox.accept(event("2"))
    async with database.write() as connection:
        await pages.join_bundle(connection, life.page, again.intake, NOW)
        await inbox.mark_routed(connection, [again.intake])
    await destroy(database, keys, life)
    assert await count(database, "data_key") == 0


async def test_the_rooms_events_are_noted_with_what_answers_them(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox)
    reply = {
        "event_id": "$reply",
        "sender": "@okafor",
        "type": "m.room.encrypted",
        "content": {"m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}},
        "origin_server_ts": 0,
    }
    async with database.write() as connection:
        await matrix_inbox.keep_events(
            connection, ROOM, [reply, {**reply, "event_id": "$o", "content": {}}], NOW
        )
    await destroy(database, keys, life)
    async with database.read() as connection:
        noted = await retention.waiting_erasures(connection, 10)
    assert [erasure.event for erasure in noted] == ["$1", "$reply"]


async def test_a_page_that_nobody_took_ends(database: Database, keys: KeyRing, inbox: IntakeStore) -> None:
    life = await open_page(database, keys, inbox)
    await destroy(database, keys, life)
    async with database.read() as connection:
        assert (await pages.get_page(connection, life.page)).state is PageState.EXPIRED
        assert await pages.next_due(connection) is None
        assert await retention.lives(connection, STANDARD, limit=10) == []


async def test_held_content_opens_after_the_rest_of_its_day_is_gone(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    held, other = [await open_page(database, keys, inbox, key) for key in ("1", "2")]
    async with database.write() as connection:
        await keys.hold(connection, await retention.keys_of(connection, [held.page]), "case")
    days = await count(database, "day_key")
    await destroy(database, keys, other)
    assert await count(database, "day_key") == days - 1
    async with database.read() as connection:
        opened, _ = await inbox.event_of(connection, await intake_of(database, held))
    assert opened.body == Phi("Bed 12")


async def test_a_hold_is_in_force_until_it_is_lifted(database: Database, keys: KeyRing) -> None:
    placed = Hold("case", HoldKind.ROLE, HEART, start=NOW)
    async with database.write() as connection:
        await holds.place(connection, keys, placed, reason=Phi("Court"), by="@counsel", now=NOW)
        assert await holds.in_force(connection) == [placed]
        assert await holds.lift(connection, "case", "@counsel", LATER)
        assert await holds.in_force(connection) == []
        assert not await holds.lift(connection, "case", "@counsel", LATER)


async def unreadable(database: Database, inbox: IntakeStore) -> None:
    unread = await inbox.keep_unreadable(ChannelId("sms"), Phi(b"Bed 12"), "no JSON")
    async with database.write() as connection:
        await inbox.mark_routed(connection, [unread.intake])


async def say(database: Database, event: str, room: RoomId = ROOM) -> None:
    """Somebody writes in a room, beside any page, and is answered."""
    said = {"event_id": event, "sender": "@okafor", "type": "m.room.encrypted", "content": {}}
    async with database.write() as connection:
        await matrix_inbox.keep_events(connection, room, [{**said, "origin_server_ts": 0}], NOW)
        for raw in await matrix_inbox.waiting_events(connection, 10):
            await matrix_inbox.settle_event(connection, raw.seq, "done")


async def destroy_loose(database: Database, keys: KeyRing, *in_force: Hold, before: datetime = NOW) -> int:
    async with database.write() as connection:
        old = await loose.older_than(connection, before, in_force)
        found = await loose.find(connection, old, limit=10)
        await loose.destroy(connection, keys, found, "old", LATER)
        return len(found)


async def test_what_belongs_to_no_page_goes_by_its_age(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await unreadable(database, inbox)
    await say(database, "$said")
    assert await destroy_loose(database, keys, before=NOW - timedelta(1)) == 0
    assert await destroy_loose(database, keys) == 2
    assert await destroy_loose(database, keys) == 0
    assert await count(database, "data_key") == 0


async def test_a_hold_keeps_what_people_wrote_beside_pages(database: Database, keys: KeyRing) -> None:
    async with database.write() as connection:
        await matrix_inbox.set_room(connection, "role:cardiology", ROOM, NOW)
    await say(database, "$heart")
    await say(database, "$brain", RoomId("!brain"))
    assert await destroy_loose(database, keys, Hold("h", HoldKind.RANGE, until=LATER)) == 0
    assert await destroy_loose(database, keys, Hold("h", HoldKind.ROLE, HEART)) == 1
    assert await destroy_loose(database, keys, Hold("h", HoldKind.ROOM, ROOM, start=NOW)) == 0
    assert await destroy_loose(database, keys, Hold("h", HoldKind.ROOM, ROOM, until=NOW)) == 1


async def test_a_room_may_be_purged_up_to_the_oldest_event_that_lives(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    one = await open_page(database, keys, inbox, "1")
    await open_page(database, keys, inbox, "2")
    async with database.read() as connection:
        assert await retention.oldest_alive(connection, [ROOM]) == {ROOM: "$1"}
    await destroy(database, keys, one)
    async with database.read() as connection:
        assert await retention.oldest_alive(connection, [ROOM]) == {ROOM: "$2"}


async def test_what_was_deleted_is_in_no_file_of_the_database(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox)
    async with database.read() as connection:
        wrapped = (await connection.execute(select(tables.data_key.c.wrapped))).scalars().all()
        sealed = (await connection.execute(select(tables.intake.c.sealed))).scalars().all()
    await destroy(database, keys, life)
    await database.forget_deleted()
    if database.is_sqlite:
        file = Path(str(database.engine.url.database))
        written = b"".join(each.read_bytes() for each in file.parent.glob(f"{file.name}*"))
        assert not any(secret in written for secret in (*wrapped, *sealed))


async def test_a_message_that_was_on_its_way_goes_as_well(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox)
    async with database.write() as connection:
        data_key = await keys.new_data_key(connection, STANDARD, NOW)
        edit = Draft(Destination(HEART), Purpose.STATUS, Phi(b"{}"), data_key, page=life.page)
        await outbox.put(connection, [edit], NOW)
        entry = await outbox.head(connection, keys, Destination(HEART))
        assert entry is not None
    await destroy(database, keys, life)
    async with database.write() as connection:
        await outbox.mark_sent(connection, [(entry.id, ROOM, EventId("$late"))], LATER)
        await retention.note_erasures(connection, await retention.stragglers(connection, NOW))
        noted = await retention.waiting_erasures(connection, 10)
    assert [erasure.event for erasure in noted] == ["$1", "$late"]
