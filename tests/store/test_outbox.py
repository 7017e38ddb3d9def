"""The outbox: the order of sending, and what is kept of a message at each stage."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, select

from bridge.model.doors import OPERATIONS, Destination, Envelope
from bridge.model.ids import EventId, OutboxId, RetentionClassId, RoleId, RoomId
from bridge.model.phi import Phi
from bridge.store import outbox, tables
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Entry, Purpose
from bridge.vault import Key, Vault, VaultError
from tests.store.conftest import NOW, OPERATOR_KEY

HEART, BRAIN = Destination(RoleId("cardiology")), Destination(RoleId("neurology"))
SOON = NOW + timedelta(seconds=5)
SECRET = b'{"body": "Bed 12"}'
ENVELOPE = Envelope(RoomId("!room"), "m.room.encrypted", '{"ciphertext": "…"}', "session")


@pytest.fixture
async def key(database: Database, keys: KeyRing) -> Key:
    async with database.write() as connection:
        return await keys.new_data_key(connection, RetentionClassId("standard"), NOW)


async def put(database: Database, *drafts: Draft) -> None:
    async with database.write() as connection:
        await outbox.put(connection, drafts, NOW)


async def head(database: Database, destination: Destination = HEART) -> Entry:
    async with database.read() as connection:
        entry = await outbox.head(connection, KeyRing(Vault(OPERATOR_KEY)), destination)
    assert entry is not None
    return entry


async def send(database: Database, entry: Entry, event: str = "$event") -> None:
    async with database.write() as connection:
        await outbox.keep_envelopes(connection, [(entry.id, ENVELOPE)])
        await outbox.mark_sent(connection, [(entry.id, ENVELOPE.room, EventId(event))], NOW)


async def row(database: Database, draft: Draft) -> dict[str, object]:
    async with database.read() as connection:
        found = await connection.execute(
            select(tables.outbox).where(tables.outbox.c.txn_id == draft.transaction)
        )
        return dict(found.one()._mapping)


def page(key: Key, destination: Destination = HEART, urgency: int = 1) -> Draft:
    return Draft(destination, Purpose.PAGE, Phi(SECRET), key, urgency=urgency)


def seed(key: Key, target: Draft) -> Draft:
    return Draft(HEART, Purpose.SEED, Phi("✅".encode()), key, target=target.transaction)


async def test_a_room_reads_in_the_order_of_decisions(database: Database, key: Key) -> None:
    drafts = [page(key) for _ in range(5)]
    await put(database, *drafts[:3])
    await put(database, *drafts[3:])
    sent = []
    for _ in drafts:
        entry = await head(database)
        sent.append(entry.transaction)
        await send(database, entry)
    assert sent == [draft.transaction for draft in drafts]


async def test_every_message_of_a_room_goes_before_every_button(database: Database, key: Key) -> None:
    one, two = page(key), page(key)
    await put(database, one, seed(key, one), two, seed(key, two))
    purposes = []
    for _ in range(4):
        entry = await head(database)
        purposes.append(entry.purpose)
        await send(database, entry)
    assert purposes == [Purpose.PAGE, Purpose.PAGE, Purpose.SEED, Purpose.SEED]


async def test_the_room_with_the_most_urgent_message_is_served_first(database: Database, key: Key) -> None:
    await put(database, page(key, HEART), page(key, OPERATIONS), page(key, BRAIN, urgency=0))
    async with database.read() as connection:
        found, _ = await outbox.destinations(connection, OutboxId(0))
    assert found == [BRAIN, HEART, OPERATIONS]


async def test_a_look_at_what_is_new_sees_only_that(database: Database, key: Key) -> None:
    await put(database, page(key, HEART))
    async with database.read() as connection:
        _, seen = await outbox.destinations(connection, OutboxId(0))
    await put(database, page(key, BRAIN))
    async with database.read() as connection:
        found, _ = await outbox.destinations(connection, seen)
    assert found == [BRAIN]


async def test_what_waits_can_be_hastened(database: Database, key: Key) -> None:
    await put(database, page(key))
    async with database.write() as connection:
        await outbox.postpone(connection, (await head(database)).id, SOON, "nobody has joined yet")
    assert (await head(database)).not_before == SOON
    async with database.write() as connection:
        await outbox.hasten(connection, NOW)
    assert (await head(database)).not_before == NOW


async def test_a_message_lies_sealed_until_it_is_encrypted(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    sealed = (await row(database, draft))["sealed"]
    assert isinstance(sealed, bytes)
    assert SECRET not in sealed
    assert key.open(sealed, f"outbox {draft.transaction}") == Phi(SECRET)


async def test_a_sealed_message_opens_under_no_other_transaction(database: Database, key: Key) -> None:
    one, other = page(key), page(key)
    await put(database, one, other)
    sealed = (await row(database, one))["sealed"]
    assert isinstance(sealed, bytes)
    with pytest.raises(VaultError, match="does not open"):
        key.open(sealed, f"outbox {other.transaction}")


async def test_the_ciphertext_replaces_the_sealed_message(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    async with database.write() as connection:
        await outbox.keep_envelopes(connection, [((await head(database)).id, ENVELOPE)])
    entry = await head(database)
    assert entry.envelope == ENVELOPE
    assert entry.transaction == draft.transaction
    assert entry.content is None
    assert (await row(database, draft))["sealed"] is None


async def test_nothing_of_a_sent_message_is_kept(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    await send(database, await head(database))
    kept = await row(database, draft)
    assert (kept["sealed"], kept["wire_content"], kept["state"]) == (None, None, "sent")


async def test_nothing_of_a_message_that_can_never_be_sent_is_kept(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    async with database.write() as connection:
        await outbox.mark_failed(connection, (await head(database)).id, "M_TOO_LARGE")
        assert await outbox.head(connection, KeyRing(Vault(OPERATOR_KEY)), HEART) is None
    kept = await row(database, draft)
    assert (kept["sealed"], kept["wire_content"], kept["error"]) == (None, None, "M_TOO_LARGE")


async def test_a_message_that_came_back_by_sync_is_known_to_be_sent(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    async with database.write() as connection:
        await outbox.keep_envelopes(connection, [((await head(database)).id, ENVELOPE)])
        await outbox.confirm(connection, draft.transaction, EventId("$event"))
        await outbox.confirm(connection, "somebody's else", EventId("$other"))
    assert (await head(database)).confirmed == "$event"


async def test_an_edit_finds_the_event_that_its_message_became(database: Database, key: Key) -> None:
    message = page(key)
    edit = Draft(HEART, Purpose.STATUS, Phi(SECRET), key, target=message.transaction)
    await put(database, message, edit)
    await send(database, await head(database), "$message")
    assert (await head(database)).target == "$message"


async def test_an_edit_of_what_was_never_sent_has_no_event_to_go_to(database: Database, key: Key) -> None:
    message = page(key)
    await put(database, message, Draft(HEART, Purpose.STATUS, Phi(SECRET), key, target=message.transaction))
    async with database.write() as connection:
        await outbox.mark_failed(connection, (await head(database)).id, "M_FORBIDDEN")
    entry = await head(database)
    assert (entry.related, entry.target) == (True, None)


async def test_a_message_whose_key_is_destroyed_does_not_open(database: Database, key: Key) -> None:
    await put(database, page(key))
    assert (await head(database)).content == Phi(SECRET)
    async with database.write() as connection:
        await connection.execute(delete(tables.data_key))
    assert (await head(database)).content is None


async def test_an_event_is_awaited_while_a_message_of_its_room_has_no_answer(
    database: Database, key: Key
) -> None:
    async def awaited(event: str = "$event", room: str = "!room", since: datetime = NOW) -> bool:
        async with database.read() as connection:
            return await outbox.is_awaited(connection, EventId(event), RoomId(room), since)

    await put(database, page(key))
    entry = await head(database)
    assert not await awaited()
    async with database.write() as connection:
        await outbox.keep_envelopes(connection, [(entry.id, ENVELOPE)])
    assert await awaited()
    assert not await awaited(room="!other")
    assert not await awaited(since=NOW - timedelta(seconds=1))
    async with database.write() as connection:
        await outbox.mark_sent(connection, [(entry.id, ENVELOPE.room, EventId("$event"))], NOW)
    assert not await awaited()
    assert not await awaited("$other")


async def test_the_same_transaction_is_never_queued_twice(database: Database, key: Key) -> None:
    draft = page(key)
    await put(database, draft)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await put(database, draft)


async def test_depth_counts_what_still_has_to_go(database: Database, key: Key) -> None:
    await put(database, page(key), page(key, BRAIN), page(key, OPERATIONS))
    await send(database, await head(database))
    async with database.read() as connection:
        assert await outbox.depth(connection) == 2
