"""What rooms bring, as rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.model.ids import RoomId, UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database
from tests.store.conftest import NOW

ROOM = RoomId("!room")


def said(event: str, content: Any = None, at: int = 1_700_000_000_000) -> dict[str, Any]:
    return {
        "event_id": event,
        "sender": "@ann:test",
        "type": "m.room.message",
        "origin_server_ts": at,
        "content": content or {"body": "accept"},
    }


async def keep(database: Database, *events: dict[str, Any]) -> int:
    async with database.write() as connection:
        return await matrix_inbox.keep_events(connection, ROOM, events, NOW)


async def waiting(database: Database, limit: int = 100) -> list[str]:
    async with database.read() as connection:
        return [event.event for event in await matrix_inbox.waiting_events(connection, limit)]


async def test_events_wait_in_the_order_in_which_they_came(database: Database) -> None:
    await keep(database, said("$2"), said("$1"))
    await keep(database, said("$0"))
    assert await waiting(database) == ["$2", "$1", "$0"]


async def test_a_repeated_event_does_nothing(database: Database) -> None:
    assert await keep(database, said("$1")) == 1
    assert await keep(database, said("$1"), said("$2"), said("$2")) == 1
    assert await waiting(database) == ["$1", "$2"]


async def test_what_could_not_be_read_yet_lets_the_new_go_first(database: Database) -> None:
    await keep(database, *(said(f"${number}") for number in range(60)))
    async with database.write() as connection:
        for event in await matrix_inbox.waiting_events(connection, 60):
            await matrix_inbox.count_attempt(connection, event.seq)
    await keep(database, said("$new"))
    assert (await waiting(database, 50))[0] == "$new"


async def test_nothing_of_an_event_that_was_acted_on_is_kept(database: Database) -> None:
    await keep(database, said("$1"))
    async with database.write() as connection:
        (event,) = await matrix_inbox.waiting_events(connection, 1)
        await matrix_inbox.settle_event(connection, event.seq, "done")
        content = (await connection.exec_driver_sql("SELECT content FROM inbound")).scalar_one()
    assert "accept" not in str(content)
    assert await waiting(database) == []


@pytest.mark.parametrize(
    "content",
    [
        {"body": "\0"},
        {"body": "\ud800"},
        {"\0": "\0"},
        {"m.relates_to": "$page"},
        {"m.relates_to": {"event_id": 5}},
        {"m.relates_to": {"event_id": "$\0"}},
        {"m.relates_to": {"event_id": "$\ud800"}},
        {"m.relates_to": {"event_id": "$" + "x" * 60_000}},
        {"m.relates_to": {"m.in_reply_to": {"event_id": ["$page"]}}},
        {"m.relates_to": {"m.in_reply_to": "\0"}},
    ],
    ids=repr,
)
async def test_whatever_somebody_writes_can_be_kept(database: Database, content: dict[str, Any]) -> None:
    await keep(database, said("$1", content))
    async with database.read() as connection:
        (event,) = await matrix_inbox.waiting_events(connection, 1)
    assert event.content == content


@pytest.mark.parametrize("at", [-(10**18), -1, 0, 2**53 - 1, 10**30])
async def test_whatever_the_clock_of_a_sender_says_can_be_kept(database: Database, at: int) -> None:
    await keep(database, said("$1", at=at))
    async with database.read() as connection:
        (event,) = await matrix_inbox.waiting_events(connection, 1)
    assert (
        datetime(1970, 1, 1, tzinfo=UTC) <= event.sent_at <= datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    )


async def test_the_position_moves_on(database: Database) -> None:
    async with database.write() as connection:
        for token in ("s1", "s2"):
            await matrix_inbox.set_position(connection, "DEVICE", token)
        assert await matrix_inbox.position(connection, "DEVICE") == "s2"
        assert await matrix_inbox.position(connection, "ANOTHER") is None


async def test_a_membership_is_what_the_homeserver_said_last(database: Database) -> None:
    ann, ben = UserId("@ann:test"), UserId("@ben:test")
    async with database.write() as connection:
        await matrix_inbox.set_member(connection, ROOM, ann, "invite", NOW)
        await matrix_inbox.set_member(connection, ROOM, ann, "join", NOW)
        await matrix_inbox.set_member(connection, ROOM, ben, "leave", NOW)
        assert await matrix_inbox.members(connection, ROOM) == {ann: "join", ben: "leave"}
        assert await matrix_inbox.rooms_of(connection, ann) == [ROOM]
        assert await matrix_inbox.rooms_of(connection, ben) == []


async def test_a_membership_of_our_own_making_does_not_take_back_a_later_one(database: Database) -> None:
    ann = UserId("@ann:test")
    async with database.write() as connection:
        await matrix_inbox.set_member(connection, ROOM, ann, "join", NOW)
        await matrix_inbox.move_member(connection, ROOM, ann, None, "invite")
        await matrix_inbox.move_member(connection, ROOM, ann, "leave", "invite")
        assert await matrix_inbox.members(connection, ROOM) == {ann: "join"}


async def test_device_messages_are_given_in_order_until_they_are_dropped(database: Database) -> None:
    async with database.write() as connection:
        await matrix_inbox.keep_device_messages(
            connection, [("to_device", {"n": 1}), ("key_counts", {"n": 2})]
        )
        first, second = await matrix_inbox.waiting_device_messages(connection, 10)
        await matrix_inbox.drop_device_message(connection, first.seq)
        assert await matrix_inbox.waiting_device_messages(connection, 10) == [second]
    assert (first.kind, second.content) == ("to_device", {"n": 2})
