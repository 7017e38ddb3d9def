"""Transactions, and what is said when the database can't make them."""

from __future__ import annotations

import asyncio
from datetime import timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from bridge.model.errors import NightbellError, StoreUnavailableError
from bridge.store.database import Database
from bridge.store.tables import root_key, sync_position
from testbed.postgres import Postgres
from tests.store.conftest import NOW


async def write(database: Database, device: str | None = None) -> None:
    async with database.write() as connection:
        await connection.execute(insert(sync_position).values(device=device or uuid4().hex, next_batch="s1"))


async def count(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(sync_position))).scalar_one())


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(insert(sync_position).values(device="D", next_batch="s1"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(database) == 0


async def test_many_writers_take_turns(database: Database) -> None:
    await asyncio.gather(*(write(database) for _ in range(50)))
    assert await count(database) == 50


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(sync_position).values(device="D", next_batch="s1"))
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_writer_that_is_cancelled_lets_the_next_one_write(database: Database) -> None:
    holding = asyncio.Event()

    async def never_ends() -> None:
        async with database.write() as connection:
            await connection.execute(insert(sync_position).values(device="D", next_batch="s1"))
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(never_ends())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await write(database, "D")
    assert await count(database) == 1


async def test_a_transaction_within_a_transaction_fails_instead_of_waiting_for_itself(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()

    async def nest() -> None:
        async with database.write():
            await write(database)

    with pytest.raises(RuntimeError, match="wait for itself"):
        await nest()
    await write(database)
    assert await count(database) == 1
    await database.close()


async def test_a_fault_of_ours_is_not_taken_for_the_database_being_away(database: Database) -> None:
    await write(database, "D")
    with pytest.raises(IntegrityError):
        await write(database, "D")


async def test_an_error_shows_no_value(database: Database) -> None:
    await write(database, "Maria")
    with pytest.raises(IntegrityError) as failed:
        await write(database, "Maria")
    assert "s1" not in str(failed.value)


async def test_a_full_disk_is_the_store_being_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    async with database.write() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own 'disk is full'
    outcomes = await asyncio.gather(
        *(write(database, uuid4().hex * 50) for _ in range(100)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} <= {type(None), StoreUnavailableError}
    assert isinstance(outcomes[-1], StoreUnavailableError)
    await database.close()


async def test_a_broken_file_is_the_store_being_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "nightbell.db"
    file.write_bytes(b"no database at all " * 1000)
    database = Database(f"sqlite:///{file}")
    with pytest.raises(StoreUnavailableError):
        await database.migrate()
    with pytest.raises(StoreUnavailableError):
        await write(database)
    with pytest.raises(StoreUnavailableError):
        await count(database)
    await database.close()


async def test_a_directory_that_can_not_be_made_is_the_store_being_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database = Database(f"sqlite:///{tmp_path / 'file' / 'nightbell.db'}")
    with pytest.raises(StoreUnavailableError):
        await database.migrate()
    await database.close()


async def test_postgresql_that_dies_is_missed_only_while_it_is_away() -> None:
    async with Postgres() as server:
        database = Database(await server.create_database("nightbell"))
        await database.migrate()
        await asyncio.gather(*(write(database) for _ in range(5)))
        await server.kill()
        for attempt in (write, count):
            with pytest.raises(StoreUnavailableError):
                await attempt(database)
        with pytest.raises(StoreUnavailableError):
            await Database(database.url).migrate()
        await server.start()
        await write(database)
        assert await count(database) == 6
        await database.close()


async def test_postgresql_that_comes_up_is_either_there_or_unavailable() -> None:
    async with Postgres() as server:
        database = Database(await server.create_database("nightbell"))
        await database.migrate()
        written = 0
        for how in (server.kill, server.stop):
            working = asyncio.create_task(_write_until_cancelled(database))
            await how()
            await server.start()
            before = await count(database)
            await _until_more_than(database, before)
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            written = await count(database)
        assert written > 0
        await database.close()


async def _write_until_cancelled(database: Database) -> None:
    while True:
        try:
            await write(database)
        except StoreUnavailableError:
            await asyncio.sleep(0.001)


async def _until_more_than(database: Database, before: int) -> None:
    async with asyncio.timeout(30):
        while await count(database) <= before:
            await asyncio.sleep(0.01)


def test_a_database_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(NightbellError, match="mysql"):
        Database("mysql://localhost/nightbell")


async def test_moments_survive_to_the_microsecond_and_come_back_in_utc(database: Database) -> None:
    boston = NOW.astimezone(timezone(timedelta(hours=-5)))
    moments = [NOW.replace(year=1969), NOW, boston + timedelta(microseconds=1)]
    async with database.write() as connection:
        for number, moment in enumerate(moments):
            row = {"id": str(number), "proof": b"", "first_used_at": moment, "in_force": False}
            await connection.execute(insert(root_key).values(row))
        rows = await connection.execute(select(root_key.c.first_used_at).order_by(root_key.c.first_used_at))
        kept = list(rows.scalars())
    assert kept == moments
    assert {moment.utcoffset() for moment in kept} == {timedelta(0)}


async def test_a_statement_that_is_wrong_is_no_database_that_is_away(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE passing (id INTEGER)"))
    with pytest.raises(DBAPIError, match="missing"):
        async with database.read() as connection:
            await connection.execute(text("SELECT missing FROM passing"))


async def test_the_error_names_what_the_database_says(tmp_path: Path) -> None:
    (tmp_path / "nightbell.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailableError, match="SQLITE_NOTADB"):
        await Database(f"sqlite:///{tmp_path / 'nightbell.db'}").migrate()
