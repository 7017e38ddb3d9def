"""The inbox: once for each id of its source, durable before it is answered, sealed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId, RetentionClassId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.store import tables
from bridge.store.database import Database
from bridge.store.inbox import IntakeRow, IntakeStore, LockedRow
from bridge.store.keys import KeyRing
from bridge.vault import KeyDestroyedError, Vault, VaultError
from tests.store.conftest import NOW

SMS = ChannelId("clinic-sms")
TEXT = IntakeEvent(
    SMS, Phi("SM1"), EventKind.TEXT, Phi("My incision is bleeding"), caller=Phi("+15550001111")
)


def text(number: int) -> IntakeEvent:
    return replace(TEXT, key=Phi(f"SM{number}"))


async def waiting(database: Database, inbox: IntakeStore) -> list[IntakeRow]:
    async with database.read() as connection:
        found = await inbox.waiting(connection, 1000)
    rows = [row for row in found if isinstance(row, IntakeRow)]
    assert rows == found
    return rows


async def test_an_event_comes_out_as_it_went_in(database: Database, inbox: IntakeStore) -> None:
    whole = IntakeEvent(
        channel=SMS,
        key=Phi("SM1"),
        kind=EventKind.PAGE,
        body=Phi("Zoë 🚑 \0 end"),
        caller=Phi("+15550001111"),
        caller_name=Phi("Zoë"),
        called=Phi("+15554567890"),
        recipient=Phi("cardiology"),
        queue=Phi("heart"),
        language="es-MX",
        priority=Priority.STAT,
        occurred_at=NOW - timedelta(minutes=5),
        attributes={"clinic": Phi("north")},
    )
    receipt = await inbox.accept(whole)
    (row,) = await waiting(database, inbox)
    assert (row.id, row.event, row.received_at) == (receipt.intake, whole, NOW)


async def test_events_come_out_in_the_order_in_which_they_came(
    database: Database, inbox: IntakeStore
) -> None:
    events = [text(number) for number in range(10)]
    for event in events:
        await inbox.accept(event)
    assert [row.event for row in await waiting(database, inbox)] == events


async def test_the_same_id_again_gets_the_same_receipt_and_no_second_row(
    database: Database, inbox: IntakeStore
) -> None:
    first = await inbox.accept(TEXT)
    second = await inbox.accept(replace(TEXT, body=Phi("sent again by a proxy that changed it")))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.intake == second.intake
    assert [row.event for row in await waiting(database, inbox)] == [TEXT]


async def test_the_same_id_of_another_channel_is_another_event(
    database: Database, inbox: IntakeStore
) -> None:
    await inbox.accept(TEXT)
    assert not (await inbox.accept(replace(TEXT, channel=ChannelId("other")))).duplicate
    assert len(await waiting(database, inbox)) == 2


async def test_what_is_kept_under_an_id_can_be_asked(inbox: IntakeStore) -> None:
    await inbox.accept(TEXT)
    assert await inbox.kind_of(SMS, TEXT.key) is EventKind.TEXT
    assert await inbox.kind_of(SMS, Phi("SM2")) is None
    assert await inbox.kind_of(ChannelId("other"), TEXT.key) is None


async def test_a_crowd_of_the_same_id_at_once_makes_one_event(database: Database, inbox: IntakeStore) -> None:
    receipts = await asyncio.gather(*(inbox.accept(TEXT) for _ in range(20)))
    assert sorted(receipt.duplicate for receipt in receipts) == [False] + [True] * 19
    assert len({receipt.intake for receipt in receipts}) == 1
    assert len(await waiting(database, inbox)) == 1


async def test_two_nodes_that_take_the_same_ids_at_once_make_one_event_of_each(
    database: Database, inbox: IntakeStore
) -> None:
    other = Database(database.url)
    keys = KeyRing(Vault(bytes(range(32))))
    await keys.claim(other, NOW)
    nodes = [inbox, IntakeStore(other, keys, lambda: NOW, lambda: None)]
    receipts = await asyncio.gather(*(node.accept(text(n)) for n in range(20) for node in nodes))
    await other.close()
    assert len({receipt.intake for receipt in receipts}) == 20
    assert len(await waiting(database, inbox)) == 20


async def test_what_can_not_be_parsed_is_kept_whole_with_the_reason(
    database: Database, inbox: IntakeStore
) -> None:
    raw = Phi(b"\xff\x00 Bed 12")
    first = await inbox.keep_unreadable(SMS, raw, "no message")
    again = await inbox.keep_unreadable(SMS, raw, "no message")
    (row,) = await waiting(database, inbox)
    assert (row.event, row.raw, row.reason) == (None, raw, "no message")
    assert (first.intake, again.duplicate) == (again.intake, True)


async def test_nothing_of_an_event_lies_open_in_its_row(database: Database, inbox: IntakeStore) -> None:
    await inbox.accept(TEXT)
    async with database.read() as connection:
        row = (await connection.execute(select(tables.intake))).one()
    stored = repr(tuple(row)).encode()
    for secret in (b"incision", b"15550001111", b"SM1"):
        assert secret not in stored


async def test_an_event_that_was_routed_waits_no_more(database: Database, inbox: IntakeStore) -> None:
    receipts = [await inbox.accept(text(number)) for number in range(3)]
    async with database.write() as connection:
        await inbox.mark_routed(connection, [receipts[0].intake, receipts[2].intake])
    assert [row.id for row in await waiting(database, inbox)] == [receipts[1].intake]


async def test_a_row_that_was_changed_does_not_open(database: Database, inbox: IntakeStore) -> None:
    receipts = [await inbox.accept(text(number)) for number in range(2)]
    async with database.write() as connection:
        rows = (await connection.execute(select(tables.intake.c.sealed, tables.intake.c.data_key))).all()
        await connection.execute(
            update(tables.intake)
            .where(tables.intake.c.id == receipts[0].intake)
            .values(sealed=rows[1].sealed, data_key=rows[1].data_key)
        )
    async with database.read() as connection:
        with pytest.raises(VaultError):
            await inbox.event_of(connection, receipts[0].intake)
        locked, sound = await inbox.waiting(connection, 10)
    assert isinstance(locked, LockedRow)
    assert isinstance(sound, IntakeRow)
    assert (locked.id, locked.channel) == (receipts[0].intake, SMS)


async def test_content_goes_with_its_key(database: Database, inbox: IntakeStore, keys: KeyRing) -> None:
    receipt = await inbox.accept(TEXT)
    (row,) = await waiting(database, inbox)
    async with database.write() as connection:
        await connection.execute(tables.data_key.delete().where(tables.data_key.c.id == row.key.id))
        with pytest.raises(KeyDestroyedError):
            await inbox.event_of(connection, receipt.intake)
        with pytest.raises(KeyDestroyedError):
            await inbox.event_of(connection, IntakeId("never was"))


async def test_a_source_is_answered_only_after_the_commit(database: Database, keys: KeyRing) -> None:
    other = Database(database.url)
    inbox = IntakeStore(database, keys, lambda: NOW, lambda: None)
    for number in range(10):
        await inbox.accept(text(number))
        assert len(await waiting(other, inbox)) == number + 1
    await other.close()


async def test_dispatch_is_woken_by_a_new_event(database: Database, keys: KeyRing) -> None:
    rung = []
    inbox = IntakeStore(database, keys, lambda: NOW, lambda: rung.append(1))
    await inbox.accept(TEXT)
    assert rung


async def test_a_data_key_can_be_moved_to_the_class_that_the_route_gives(
    database: Database, inbox: IntakeStore, keys: KeyRing
) -> None:
    receipt = await inbox.accept(TEXT)
    (row,) = await waiting(database, inbox)
    async with database.write() as connection:
        await keys.reclassify(connection, [(row.key, RetentionClassId("standard"))], NOW)
    async with database.read() as connection:
        event, _ = await inbox.event_of(connection, receipt.intake)
        query = select(tables.day_key.c.retention).join(
            tables.data_key, tables.data_key.c.day_key == tables.day_key.c.id
        )
        classes = list((await connection.execute(query)).scalars())
    assert (event, classes) == (TEXT, ["standard"])
