"""Recordings and pictures: what is kept of one at each stage, so that it is uploaded and shown once."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from bridge.model.attachment import Attachment
from bridge.model.doors import Destination
from bridge.model.ids import EventId, RoleId
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.store import attachments, outbox, tables
from bridge.store.attachments import Locked, Unposted, Waiting
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose
from bridge.store.pages import get_page
from tests.store.conftest import NOW
from tests.store.test_retention import HEART, ROOM, destroy, event, open_page

THERE = Attachment("audio/wav", place=Phi("default/100/INBOX/msg0001"))
HERE = Attachment("audio/wav", name=Phi("msg0001.WAV"), content=Phi(b"RIFF\n\0\nspeech"))


async def waiting(database: Database, keys: KeyRing) -> list[Waiting | Locked]:
    async with database.read() as connection:
        return await attachments.waiting(connection, keys, NOW, but=(), limit=10)


async def unposted(database: Database, keys: KeyRing) -> list[Unposted]:
    async with database.read() as connection:
        return await attachments.unposted(connection, keys)


async def upload(database: Database, keys: KeyRing, *, remove: bool = False) -> None:
    async with database.write() as connection:
        [one] = await attachments.waiting(connection, keys, NOW, but=(), limit=10)
        assert isinstance(one, Waiting)
        await attachments.keep_file(connection, one, Phi(b"{}"), b"ciphertext", remove=remove)
        await attachments.keep_address(connection, one, "mxc://nightbell.test/a")
        await attachments.mark_uploaded(connection, one)


async def post(database: Database, keys: KeyRing) -> None:
    async with database.write() as connection:
        for one in await attachments.unposted(connection, keys):
            place = one.place
            draft = Draft(
                place.destination,
                Purpose.MEDIA,
                one.content,
                one.key,
                page=place.page,
                target=place.message,
                transaction=one.transaction,
            )
            await outbox.put(connection, [draft], NOW)


async def removable(database: Database, keys: KeyRing) -> list[Waiting]:
    async with database.read() as connection:
        return await attachments.to_remove(connection, keys, NOW, 10)


async def row(database: Database) -> dict[str, object]:
    async with database.read() as connection:
        return dict((await connection.execute(select(tables.attachment))).one()._mapping)


async def test_one_is_as_it_was_once_its_event_is_a_page(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1", HERE, THERE)
    found = await waiting(database, keys)
    assert {one.attachment for one in found if isinstance(one, Waiting)} == {HERE, THERE}


async def test_an_event_without_a_page_keeps_its_own_to_itself(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1")
    await inbox.accept(event("2"))
    assert await waiting(database, keys) == []


async def test_nothing_of_it_lies_in_the_clear(database: Database, keys: KeyRing, inbox: IntakeStore) -> None:
    await open_page(database, keys, inbox, "1", HERE)
    assert b"speech" not in str(await row(database)).encode()


async def test_the_same_event_again_brings_none(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1", HERE)
    repeated = event("1")
    await inbox.accept(repeated)
    assert len(await waiting(database, keys)) == 1


async def test_what_came_with_its_event_goes_from_here_once_it_is_encrypted(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1", HERE)
    async with database.write() as connection:
        [one] = await attachments.waiting(connection, keys, NOW, but=(), limit=10)
        assert isinstance(one, Waiting)
        await attachments.keep_file(connection, one, Phi(b"{}"), b"ciphertext", remove=False)
    assert (await row(database))["sealed"] is None


async def test_it_is_posted_once_in_each_room_of_its_page(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox, "1", HERE)
    await upload(database, keys)
    await post(database, keys)
    assert await unposted(database, keys) == []
    elsewhere = Destination(RoleId("neurology"))
    async with database.write() as connection:
        _, key = await inbox.event_of(connection, (await get_page(connection, life.page)).intake)
        again = Draft(elsewhere, Purpose.PAGE, Phi(b"{}"), key, page=life.page)
        await outbox.put(connection, [again], NOW)
    [later] = await unposted(database, keys)
    assert (later.place.destination, later.mxc) == (elsewhere, "mxc://nightbell.test/a")


@pytest.mark.parametrize("state", [PageState.ACCEPTED, PageState.CLOSED])
async def test_a_page_that_somebody_has_by_then_gets_it_too(
    database: Database, keys: KeyRing, inbox: IntakeStore, state: PageState
) -> None:
    await open_page(database, keys, inbox, "1", THERE)
    async with database.write() as connection:
        await connection.execute(update(tables.page).values(state=state.value))
    await upload(database, keys)
    assert len(await unposted(database, keys)) == 1


async def test_it_stays_at_its_source_until_it_is_in_every_room(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1", THERE)
    await upload(database, keys, remove=True)
    assert await removable(database, keys) == []
    await post(database, keys)
    assert await removable(database, keys) == []
    async with database.write() as connection:
        entry = await outbox.head(connection, keys, Destination(HEART))
        assert entry is not None
        await outbox.mark_sent(connection, [(entry.id, ROOM, EventId("$audio"))], NOW)
    [one] = await removable(database, keys)
    assert one.attachment == THERE
    async with database.write() as connection:
        await attachments.mark_removed(connection, one)
    assert await removable(database, keys) == []


async def test_its_address_outlives_its_content(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox, "1", HERE)
    await upload(database, keys)
    await destroy(database, keys, life)
    left = await row(database)
    assert (left["sealed"], left["sealed_message"], left["file"]) == (None, None, None)
    async with database.read() as connection:
        assert await attachments.addresses_of(connection, [life.page]) == {
            "mxc://nightbell.test/a": life.page
        }


async def test_what_is_uploaded_too_late_is_not_posted(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox, "1", HERE)
    async with database.write() as connection:
        [one] = await attachments.waiting(connection, keys, NOW, but=(), limit=10)
        assert isinstance(one, Waiting)
        await attachments.keep_file(connection, one, Phi(b"{}"), b"ciphertext", remove=False)
    await destroy(database, keys, life)
    async with database.write() as connection:
        await attachments.mark_uploaded(connection, one)
    assert (await row(database))["state"] == "destroyed"
    assert await unposted(database, keys) == []
