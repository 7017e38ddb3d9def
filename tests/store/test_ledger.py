"""The ledger's rows: one chain, however many write to it, and whenever they are killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from bridge import ledger as chain
from bridge.engine.prune import Pruning
from bridge.ledger import Action, Record
from bridge.model.ids import PageId
from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind
from bridge.store import holds, ledger
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.tables import ledger as rows
from tests.store.conftest import NOW

LONG_AGO = NOW - timedelta(days=2200)
WRITER = Path(__file__).with_name("ledger_writer.py")


async def append(database: Database, *records: Record, at: datetime = NOW) -> None:
    async with database.write() as connection:
        await ledger.append(connection, records, at)


async def verified(database: Database, keys: KeyRing) -> chain.Verdict:
    async with database.write() as connection:
        await ledger.checkpoint(connection, keys.signer(), NOW, await ledger.head(connection))
        last = (await ledger.head(connection)).seq
        links = [link async for link in ledger.links(connection, until=last)]
        lines = list(chain.lines_of(links, await ledger.checkpoints(connection)))
    return chain.verify(lines, keys.signer().public_key())


@pytest.fixture
async def other(url: str, database: Database) -> AsyncIterator[Database]:
    """Another node on the same database."""
    other = Database(url)
    yield other
    await other.close()


async def test_records_are_chained_in_the_order_in_which_they_come(database: Database, keys: KeyRing) -> None:
    await append(database, Record(Action.RECEIVED), Record(Action.ROUTED, page=PageId("p")))
    await append(database, Record(Action.ACCEPTED, "@okafor", page=PageId("p"), patient=b"token"))
    verdict = await verified(database, keys)
    assert (verdict.records, verdict.vouched, verdict.problem) == (3, 3, None)


async def test_a_transaction_that_is_taken_back_leaves_no_gap(database: Database, keys: KeyRing) -> None:
    await append(database, Record(Action.STARTED))
    with suppress(RuntimeError):
        async with database.write() as connection:
            await ledger.append(connection, [Record(Action.ACCEPTED, "@okafor")], NOW)
            raise RuntimeError
    await append(database, Record(Action.CLOSED))
    verdict = await verified(database, keys)
    assert (verdict.records, verdict.problem) == (2, None)


async def test_two_nodes_that_write_at_once_do_not_fork_it(
    database: Database, other: Database, keys: KeyRing
) -> None:
    async def write(node: Database, name: str) -> None:
        for _ in range(25):
            await append(node, Record(Action.ROUTED, name), Record(Action.SENT, name))

    await asyncio.gather(*(write(node, name) for node in (database, other) for name in ("a", "b")))
    verdict = await verified(database, keys)
    assert (verdict.records, verdict.problem) == (200, None)


async def test_killed_while_it_writes_it_has_no_gap_and_goes_on(
    url: str, database: Database, keys: KeyRing
) -> None:
    for _ in range(3):
        before = await _last(database)
        writer = await asyncio.create_subprocess_exec(sys.executable, WRITER, url)
        async with asyncio.timeout(30):
            while await _last(database) < before + 20:
                await asyncio.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
        await writer.wait()
    last = await _last(database)
    verdict = await verified(database, keys)
    assert (verdict.records, verdict.problem) == (last, None)


async def test_what_was_signed_is_not_signed_again(database: Database, keys: KeyRing) -> None:
    async with database.write() as connection:
        assert await ledger.checkpoint(connection, keys.signer(), NOW, await ledger.head(connection)) is None
        await ledger.append(connection, [Record(Action.STARTED)], NOW)
        assert (
            await ledger.checkpoint(connection, keys.signer(), NOW, await ledger.head(connection)) is not None
        )
        assert await ledger.checkpoint(connection, keys.signer(), NOW, await ledger.head(connection)) is None


async def test_a_page_is_shown_with_the_sharing_of_the_keys_it_was_sent_under(database: Database) -> None:
    page = PageId("p")
    await append(
        database,
        Record(Action.KEY_SHARED, objects={"session": "s1", "devices": ["@okafor/PHONE"]}),
        Record(Action.KEY_SHARED, objects={"session": "s2"}),
        Record(Action.ROUTED, page=page),
        Record(Action.ROUTED, page=PageId("q")),
        Record(Action.SENT, page=page, objects={"session": "s1"}),
    )
    async with database.read() as connection:
        shown = await ledger.of_pages(connection, [page])
    assert [link.seq for link in shown] == [1, 3, 5]


async def test_what_became_of_a_patients_messages_is_found_by_the_token(database: Database) -> None:
    await append(
        database,
        Record(Action.RECEIVED, patient=b"anna"),
        Record(Action.ROUTED, page=PageId("p"), patient=b"anna"),
        Record(Action.ROUTED, page=PageId("q"), patient=b"ben"),
        Record(Action.ACCEPTED, "@okafor", page=PageId("p")),
    )
    async with database.read() as connection:
        assert [link.seq for link in await ledger.of_patient(connection, b"anna")] == [1, 2, 4]


async def six_records_signed_twice(database: Database, keys: KeyRing) -> None:
    """Three of long ago, three of today, each three under a signature."""
    for at in (LONG_AGO, NOW):
        await append(database, *[Record(Action.RECEIVED)] * 3, at=at)
        async with database.write() as connection:
            await ledger.checkpoint(connection, keys.signer(), at, await ledger.head(connection))


async def prune(database: Database) -> ledger.Pruning | None:
    async with database.write() as connection:
        return await ledger.prune(connection, NOW - timedelta(days=1), NOW)


async def test_old_records_go_and_what_remains_is_verified_from_the_signature(
    database: Database, keys: KeyRing
) -> None:
    await six_records_signed_twice(database, keys)
    pruned = await prune(database)
    assert pruned is not None
    assert (pruned.records, pruned.until.head.seq, await prune(database)) == (3, 3, None)
    verdict = await verified(database, keys)
    assert (verdict.after, verdict.records, verdict.last, verdict.problem) == (3, 4, 7, None)


async def test_a_ledger_whose_records_are_all_old_goes_on_where_it_stood(
    database: Database, keys: KeyRing
) -> None:
    await append(database, *[Record(Action.RECEIVED)] * 3, at=LONG_AGO)
    async with database.write() as connection:
        await ledger.checkpoint(connection, keys.signer(), LONG_AGO, await ledger.head(connection))
    await prune(database)
    await append(database, Record(Action.STARTED))
    verdict = await verified(database, keys)
    assert (verdict.after, verdict.records, verdict.last, verdict.problem) == (3, 2, 5, None)


async def test_old_records_without_a_signature_stay(database: Database) -> None:
    await append(database, Record(Action.RECEIVED), at=LONG_AGO)
    assert await prune(database) is None
    assert await _last(database) == 1


async def test_between_two_batches_of_pruning_the_ledger_is_whole(
    database: Database, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PRUNED_AT_ONCE", 4)
    for _ in range(4):
        await append(database, *[Record(Action.RECEIVED)] * 2, at=LONG_AGO)
        async with database.write() as connection:
            await ledger.checkpoint(connection, keys.signer(), LONG_AGO, await ledger.head(connection))
    begins = []
    while await prune(database) is not None:
        verdict = await verified(database, keys)
        assert verdict.problem is None
        begins.append(verdict.after)
    assert begins == [4, 8]


async def test_two_nodes_prune_while_both_write(database: Database, other: Database, keys: KeyRing) -> None:
    await six_records_signed_twice(database, keys)

    async def write(node: Database) -> None:
        for _ in range(10):
            await append(node, Record(Action.SENT))

    nodes = (database, other)
    await asyncio.gather(*map(write, nodes), *map(prune, nodes))
    verdict = await verified(database, keys)
    assert (verdict.after, verdict.records, verdict.problem) == (3, 24, None)


async def test_a_record_cut_off_beyond_the_signature_is_missed(database: Database, keys: KeyRing) -> None:
    await six_records_signed_twice(database, keys)
    await prune(database)
    async with database.write() as connection:
        await connection.execute(delete(rows).where(rows.c.seq == 4))
    problem = (await verified(database, keys)).problem
    assert problem is not None
    assert "record 4 should stand here" in problem


async def test_no_record_goes_while_a_legal_hold_is_in_force(database: Database, keys: KeyRing) -> None:
    await six_records_signed_twice(database, keys)
    pruning = Pruning(database, keep=timedelta(days=1), now=lambda: NOW)
    async with database.write() as connection:
        hold = Hold("h", HoldKind.ROLE, "cardiology", None, None)
        await holds.place(connection, keys, hold, reason=Phi("a case"), by="@privacy", now=NOW)
    await pruning.step()
    assert (await verified(database, keys)).after == 0
    async with database.write() as connection:
        await holds.lift(connection, "h", "@privacy", NOW)
    await pruning.step()
    assert (await verified(database, keys)).after == 3


async def _last(database: Database) -> int:
    async with database.read() as connection:
        return (await ledger.head(connection)).seq
