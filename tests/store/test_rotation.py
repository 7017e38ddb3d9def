"""The operator's key is changed while bridges run: nothing is lost, and afterwards the old key opens nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import select

from bridge.model.ids import RetentionClassId
from bridge.model.phi import Phi
from bridge.store import nodes, rotation, tables
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.nodes import Behind, Node
from bridge.vault import Vault, VaultError
from tests.store.conftest import NOW, OPERATOR_KEY
from tests.store.test_keys import fresh

OLD, NEW = Vault(OPERATOR_KEY), Vault(bytes(32), OPERATOR_KEY)
HERE = Node("here", "process 1 on here")
CONTENT = Phi(b"Bed 12")


async def sealed_under(database: Database, keys: KeyRing, retention: str) -> tuple[str, bytes]:
    """Content under a day key of its own, as the id of its key and what was sealed."""
    async with database.write() as connection:
        key = await keys.new_data_key(connection, RetentionClassId(retention), NOW)
    return key.id, key.seal(CONTENT, "here")


async def opens(database: Database, keys: KeyRing, sealed: tuple[str, bytes]) -> bool:
    async with database.read() as connection:
        return (await keys.data_key(connection, sealed[0])).open(sealed[1], "here") == CONTENT


async def put_in_force(database: Database, silent: Sequence[Behind] = ()) -> Sequence[Behind]:
    async with database.write() as connection:
        return await rotation.put_in_force(connection, NEW, {each.id: each for each in silent}, NOW)


async def rewrap(database: Database, limit: int = 100) -> int:
    async with database.write() as connection:
        return await rotation.rewrap(connection, NEW, limit)


async def ring(database: Database, vault: Vault) -> KeyRing:
    """A process that starts with these operator keys."""
    keys = KeyRing(vault)
    await keys.claim(database, NOW)
    return keys


async def wrapped(database: Database) -> list[tuple[str, bytes]]:
    """Everything that an operator key wraps."""
    async with database.read() as connection:
        found = [
            (await connection.execute(select(table.c.id, table.c.wrapped))).all()
            for table in (tables.day_key, tables.lasting_key)
        ]
    return [(row.id, row.wrapped) for rows in found for row in rows]


async def test_a_key_that_is_configured_is_not_in_force_yet(database: Database, keys: KeyRing) -> None:
    await sealed_under(database, await ring(database, NEW), "standard")
    await ring(database, OLD)
    assert all(OLD.unwrap(*each) for each in await wrapped(database))


async def test_what_a_bridge_makes_while_the_key_is_changed_is_opened_by_all_that_know_both(
    database: Database, keys: KeyRing
) -> None:
    running, other = await ring(database, NEW), await ring(database, NEW)
    before = await sealed_under(database, running, "before")
    assert await put_in_force(database) == []
    amid = await sealed_under(database, running, "amid")
    while await rewrap(database, 1):
        assert await opens(database, running, before)
        assert await opens(database, await ring(database, NEW), amid)
    after = await sealed_under(database, running, "after")
    for node in (running, other, await ring(database, Vault(bytes(32)))):
        assert [await opens(database, node, each) for each in (before, amid, after)] == [True] * 3
        assert node.pickle_key() == keys.pickle_key()
        assert node.lookup("caller", Phi("+1")) == keys.lookup("caller", Phi("+1"))
        assert node.signer().public_key() == keys.signer().public_key()


async def test_afterwards_the_old_key_opens_nothing(database: Database, keys: KeyRing) -> None:
    before = await wrapped(database)
    await fresh(database, keys)
    await put_in_force(database)
    while await rewrap(database):
        pass
    for each in await wrapped(database):
        with pytest.raises(VaultError):
            OLD.unwrap(*each)
    assert not {sealed for _, sealed in before} & {sealed for _, sealed in await wrapped(database)}
    with pytest.raises(VaultError, match="sealed under operator key"):
        await ring(database, OLD)


async def test_a_crash_between_any_two_steps_is_made_good_by_the_next_run(
    database: Database, keys: KeyRing
) -> None:
    kept = [await sealed_under(database, keys, f"class {number}") for number in range(5)]
    crashes = 0
    while True:
        # Every run is killed after one batch; what starts in between knows both keys and goes on.
        assert await put_in_force(database) == []
        left = await rewrap(database, 2)
        started = await ring(database, NEW)
        assert all([await opens(database, started, each) for each in kept])
        kept.append(await sealed_under(database, started, f"after crash {crashes}"))
        if not left:
            break
        crashes += 1
    assert crashes >= 4
    alone = await ring(database, Vault(bytes(32)))
    assert all([await opens(database, alone, each) for each in kept])


async def test_a_running_bridge_that_does_not_know_the_new_key_keeps_it_from_coming_into_force(
    database: Database, keys: KeyRing
) -> None:
    await keys.enlist(database, HERE, OLD, NOW)
    assert [each.name for each in await put_in_force(database)] == ["process 1 on here"]
    await sealed_under(database, keys, "standard")
    await ring(database, OLD)
    await keys.enlist(database, HERE, NEW, NOW)
    assert await put_in_force(database) == []


async def test_a_bridge_that_was_killed_is_not_waited_for_but_one_that_gives_a_sign_is(
    database: Database, keys: KeyRing
) -> None:
    await keys.enlist(database, HERE, OLD, NOW)
    [behind] = await put_in_force(database)
    async with database.write() as connection:
        await nodes.beat(connection, HERE, OLD.ids, NOW.replace(minute=59))
    [alive] = await put_in_force(database, [behind])
    assert await put_in_force(database, [alive]) == []


async def test_a_bridge_keeps_its_keys_if_those_it_is_given_do_not_open_the_database(
    database: Database, keys: KeyRing
) -> None:
    with pytest.raises(VaultError, match="sealed under operator key"):
        await keys.enlist(database, HERE, Vault(bytes(32)), NOW)
    assert await opens(database, keys, await sealed_under(database, keys, "standard"))
    async with database.read() as connection:
        assert await nodes.without(connection, "any") == {}


async def test_days_that_begin_at_the_moment_of_the_change_are_not_left_under_the_old_key(
    database: Database, keys: KeyRing
) -> None:
    running = await ring(database, NEW)

    async def make(number: int) -> tuple[str, bytes]:
        return await sealed_under(database, running, f"class {number}")

    async def change() -> None:
        await put_in_force(database)
        while await rewrap(database, 3):
            pass

    *kept, _ = await asyncio.gather(*(make(number) for number in range(12)), change())
    alone = await ring(database, Vault(bytes(32)))
    assert all([await opens(database, alone, each) for each in kept if each is not None])
    async with database.read() as connection:
        [status] = await rotation.status(connection)
    assert (status.id, status.day_keys, status.in_force) == (NEW.root.id, 12, True)
