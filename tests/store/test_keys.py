"""The key ring: one operator's key for one database, a key for each class and day, and none that is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from bridge.model.ids import RetentionClassId
from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind
from bridge.store import holds, tables
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import KeyDestroyedError, Vault, VaultError
from tests.store.conftest import NOW

DAY = timedelta(days=1)
HOLD = Hold("a1", HoldKind.RANGE)
STANDARD, SHORT = RetentionClassId("standard"), RetentionClassId("short")


async def fresh(
    database: Database, keys: KeyRing, retention: RetentionClassId = STANDARD, days: int = 0
) -> str:
    async with database.write() as connection:
        return (await keys.new_data_key(connection, retention, NOW + timedelta(days=days))).id


async def day_keys(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(select(tables.day_key.c.id))).scalars())


async def test_a_key_is_found_again_by_another_process(database: Database, keys: KeyRing) -> None:
    async with database.write() as connection:
        key = await keys.new_data_key(connection, STANDARD, NOW)
    later = KeyRing(Vault(bytes(range(32))))
    await later.claim(database, NOW)
    async with database.read() as connection:
        found = await later.data_key(connection, key.id)
    assert found.open(key.seal(Phi(b"Bed 12"), "x"), "x") == Phi(b"Bed 12")


async def test_a_class_has_one_key_a_day(database: Database, keys: KeyRing) -> None:
    for retention, day in ((STANDARD, 0), (STANDARD, 0), (SHORT, 0), (STANDARD, 1)):
        await fresh(database, keys, retention, day)
    assert len(await day_keys(database)) == 3


async def test_the_first_keys_of_a_day_may_be_made_at_once(database: Database, keys: KeyRing) -> None:
    made = await asyncio.gather(*(fresh(database, keys) for _ in range(10)))
    assert len(set(made)) == 10
    assert len(await day_keys(database)) == 1
    async with database.read() as connection:
        for key in made:
            await keys.data_key(connection, key)


async def test_a_day_key_of_a_transaction_that_was_taken_back_is_not_used(
    database: Database, keys: KeyRing
) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await keys.new_data_key(connection, STANDARD, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    kept = await fresh(database, keys)
    later = KeyRing(Vault(bytes(range(32))))
    async with database.read() as connection:
        await later.data_key(connection, kept)


async def test_a_database_opens_under_its_own_operator_key_only(database: Database, keys: KeyRing) -> None:
    with pytest.raises(VaultError):
        await KeyRing(Vault(bytes(32))).claim(database, NOW)


async def test_a_destroyed_key_is_told_from_a_wrong_one(database: Database, keys: KeyRing) -> None:
    key = await fresh(database, keys)
    async with database.write() as connection:
        await connection.execute(delete(tables.data_key))
        with pytest.raises(KeyDestroyedError):
            await keys.data_key(connection, key)


async def test_no_key_lies_open_in_the_database(database: Database, keys: KeyRing) -> None:
    async with database.write() as connection:
        key = await keys.new_data_key(connection, STANDARD, NOW)
        rows = (await connection.execute(select(tables.data_key.c.wrapped))).scalars().all()
    assert all(key._secret not in wrapped for wrapped in rows)


async def test_fingerprints_stay_the_same_over_restarts(database: Database, keys: KeyRing) -> None:
    later = KeyRing(Vault(bytes(range(32))))
    await later.claim(database, NOW)
    assert later.lookup("caller", Phi("+15550001111")) == keys.lookup("caller", Phi("+15550001111"))
    assert later.pickle_key() == keys.pickle_key()


async def test_a_day_whose_last_key_was_destroyed_on_the_same_day_goes_once_it_is_over(
    database: Database, keys: KeyRing
) -> None:
    key = await fresh(database, keys)
    async with database.write() as connection:
        await keys.destroy(connection, [key], NOW.date().isoformat())
        assert (
            await keys.forget_days(connection, NOW + DAY) == 0
        )  # a transaction of before midnight may yet commit
        assert await keys.forget_days(connection, NOW + 2 * DAY) == 1


async def test_a_day_from_which_all_was_moved_goes_and_what_was_moved_still_opens(
    database: Database, keys: KeyRing
) -> None:
    moved, held = [await fresh(database, keys) for _ in range(2)]
    async with database.write() as connection:
        key = await keys.data_key(connection, moved)
        await keys.reclassify(connection, [(key, SHORT)], NOW)
        await holds.place(connection, keys, HOLD, reason=Phi("Case 7"), by="@counsel:x", now=NOW)
        await keys.hold(connection, [held], HOLD.id)
        assert await keys.forget_days(connection, NOW + 2 * DAY) == 1
        for name in (moved, held):
            await keys.data_key(connection, name)
    assert {day.split("/")[0] for day in await day_keys(database)} == {"short", "hold"}


async def test_the_key_of_a_hold_goes_after_it_was_lifted_and_what_it_kept_is_gone(
    database: Database, keys: KeyRing
) -> None:
    held = await fresh(database, keys)
    async with database.write() as connection:
        await holds.place(connection, keys, HOLD, reason=Phi("Case 7"), by="@counsel:x", now=NOW)
        await keys.hold(connection, [held], HOLD.id)
        await keys.forget_days(connection, NOW + 2 * DAY)
        await connection.execute(delete(tables.data_key))
        assert await keys.forget_days(connection, NOW + 2 * DAY) == 0  # it opens the reason
        await holds.lift(connection, HOLD.id, "@counsel:x", NOW)
        assert await keys.forget_days(connection, NOW + 2 * DAY) == 1
