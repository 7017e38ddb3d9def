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

from bridge import ledger as chain
from bridge.ledger import Action, Record
from bridge.model.ids import PageId
from bridge.store import ledger
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from tests.store.conftest import NOW

WRITER = Path(__file__).with_name("ledger_writer.py")


async def append(database: Database, *records: Record, at: datetime = NOW) -> None:
    async with database.write() as connection:
        await ledger.append(connection, records, at)


async def verified(database: Database, keys: KeyRing) -> chain.Verdict:
    async with database.write() as connection:
        await ledger.checkpoint(connection, keys.signer(), NOW)
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
        assert await ledger.checkpoint(connection, keys.signer(), NOW) is None
        await ledger.append(connection, [Record(Action.STARTED)], NOW)
        assert await ledger.checkpoint(connection, keys.signer(), NOW, apart=2) is None
        assert await ledger.checkpoint(connection, keys.signer(), NOW) is not None
        assert await ledger.checkpoint(connection, keys.signer(), NOW) is None


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
        shown = await ledger.of_page(connection, page)
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


async def _last(database: Database) -> int:
    async with database.read() as connection:
        return (await ledger.head(connection)).seq


YEARS = timedelta(days=365)


async def pruned(database: Database, before: datetime) -> int | None:
    """How far the records from before a moment were pruned."""
    async with database.read() as connection:
        until = await ledger.prunable(connection, before)
    if until is None:
        return None
    left = 1
    while left:
        async with database.write() as connection:
            left = await ledger.prune(connection, until, NOW)
    return until.head.seq


async def sign(database: Database, keys: KeyRing, at: datetime) -> None:
    async with database.write() as connection:
        await ledger.checkpoint(connection, keys.signer(), at)


async def test_what_remains_after_pruning_verifies_from_the_signature_that_stays(
    database: Database, keys: KeyRing
) -> None:
    for years in (8, 7, 1):
        await append(database, *[Record(Action.RECEIVED)] * 3, at=NOW - years * YEARS)
        await sign(database, keys, NOW - years * YEARS)
    assert await pruned(database, NOW - 6 * YEARS) == 6
    verdict = await verified(database, keys)
    assert (verdict.after, verdict.records, verdict.last, verdict.problem) == (6, 4, 10, None)


async def test_pruning_ends_where_it_was_cut_off_and_an_export_in_between_verifies(
    database: Database, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BATCH", 4)
    await append(database, *[Record(Action.RECEIVED)] * 10, at=NOW - 8 * YEARS)
    await sign(database, keys, NOW - 8 * YEARS)
    await append(database, Record(Action.RECEIVED), at=NOW)
    async with database.write() as connection:
        until = await ledger.prunable(connection, NOW - 6 * YEARS)
        assert until is not None
        assert await ledger.prune(connection, until, NOW) == 6
    assert (await verified(database, keys)).problem is None
    assert await pruned(database, NOW - 6 * YEARS) == 10
    verdict = await verified(database, keys)
    assert (verdict.after, verdict.last, verdict.problem) == (10, 12, None)


async def test_the_last_record_is_never_pruned_or_the_chain_could_not_go_on(
    database: Database, keys: KeyRing
) -> None:
    await append(database, Record(Action.RECEIVED), at=NOW - 8 * YEARS)
    await sign(database, keys, NOW - 8 * YEARS)
    assert await pruned(database, NOW - 6 * YEARS) is None
    await append(database, Record(Action.RECEIVED))
    assert await pruned(database, NOW - 6 * YEARS) == 1
    assert await pruned(database, NOW - 6 * YEARS) is None
    assert (await verified(database, keys)).problem is None
