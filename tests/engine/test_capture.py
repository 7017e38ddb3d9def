"""A channel's raw traffic is recorded while somebody has asked for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from bridge.engine.capture import KEPT, Captures
from bridge.ledger import Action
from bridge.model.doors import OPERATIONS
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind
from bridge.store import captures, holds, outbox
from bridge.store.captures import CAPTURE_CLASS, Capture, CaptureHeldError
from bridge.store.database import Database
from bridge.store.keys import HOLD_CLASS, KeyRing
from bridge.store.tables import captured, data_key, day_key, ledger
from bridge.vault import Vault

SMS, OTHER = ChannelId("clinic-sms"), ChannelId("events")
START = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
LENGTH = timedelta(minutes=5)
LIMIT = 1000


@dataclass
class Bench:
    database: Database
    keys: KeyRing
    at: datetime = START
    loop: Captures = field(init=False)

    def __post_init__(self) -> None:
        self.loop = Captures(self.database, self.keys, lambda: self.at, lambda: None)

    async def ask(self) -> None:
        async with self.database.write() as connection:
            wanted = Capture(SMS, "@operator:nightbell.test", self.at, self.at + LENGTH, LIMIT)
            await captures.begin(connection, self.keys, wanted)
        await self.loop.step()

    async def destroy(self) -> None:
        async with self.database.write() as connection:
            await captures.destroy(connection, self.keys, await captures.known(connection), self.at)

    async def shown(self) -> list[tuple[str, bytes]]:
        async with self.database.read() as connection:
            [found] = await captures.known(connection)
            pieces = await captures.pieces_of(connection, self.keys, found)
        return [(piece.way, piece.raw.reveal()) for piece in pieces]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(os.urandom(32)))
    await keys.claim(database, START)
    yield Bench(database, keys)
    await database.close()


async def test_what_comes_and_what_is_said_is_kept_of_this_channel_and_from_then_on(bench: Bench) -> None:
    bench.loop.note(SMS, "<", Phi(b"before"))
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"POST /intake/clinic-sms"))
    bench.loop.note(OTHER, "<", Phi(b"another channel's"))
    bench.loop.note(SMS, ">", Phi(b"200"))
    await bench.loop.step()
    assert await bench.shown() == [("<", b"POST /intake/clinic-sms"), (">", b"200")]


async def test_it_is_sealed_told_and_recorded(bench: Bench) -> None:
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"My incision is bleeding"))
    await bench.loop.step()
    async with bench.database.read() as connection:
        [sealed] = (await connection.execute(select(captured.c.sealed))).scalars()
        actions = list((await connection.execute(select(ledger.c.action))).scalars())
        told = await outbox.head(connection, bench.keys, OPERATIONS)
    assert b"incision" not in sealed
    assert actions == [Action.CAPTURED]
    assert told is not None
    assert told.content is not None
    assert "@operator:nightbell.test has the raw traffic of clinic-sms recorded, for 5 min" in (
        told.content.reveal().decode()
    )


async def test_it_ends_at_its_size(bench: Bench) -> None:
    await bench.ask()
    for _ in range(5):
        bench.loop.note(SMS, "<", Phi(b"x" * 300))
    await bench.loop.step()
    bench.loop.note(SMS, "<", Phi(b"y"))
    await bench.loop.step()
    assert sum(len(raw) for _, raw in await bench.shown()) == LIMIT
    bench.loop = Captures(bench.database, bench.keys, lambda: bench.at, lambda: None)
    await bench.loop.step()
    bench.loop.note(SMS, "<", Phi(b"after a restart"))
    await bench.loop.step()
    assert sum(len(raw) for _, raw in await bench.shown()) == LIMIT


async def test_it_ends_at_its_time_and_is_destroyed_a_day_later(bench: Bench) -> None:
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"in time"))
    bench.at += LENGTH
    bench.loop.note(SMS, "<", Phi(b"too late"))
    await bench.loop.step()
    assert await bench.shown() == [("<", b"in time")]
    async with bench.database.read() as connection:
        [kept] = await captures.known(connection)
    bench.at += KEPT
    await bench.loop.step()
    async with bench.database.read() as connection:
        assert await captures.known(connection) == []
        assert (await connection.execute(select(captured))).all() == []
        of_it = select(data_key).where(data_key.c.id == kept.key)
        assert (await connection.execute(of_it)).all() == []


async def test_asked_for_again_it_begins_anew(bench: Bench) -> None:
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"the first time"))
    await bench.loop.step()
    bench.at += timedelta(minutes=1)
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"the second time"))
    await bench.loop.step()
    assert await bench.shown() == [("<", b"the second time")]


async def test_what_was_destroyed_meanwhile_is_not_written_again(bench: Bench) -> None:
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"x"))
    await bench.destroy()
    await bench.loop.step()
    async with bench.database.read() as connection:
        assert (await connection.execute(select(captured))).all() == []


async def place(bench: Bench, hold: Hold) -> None:
    async with bench.database.write() as connection:
        await holds.place(connection, bench.keys, hold, reason=Phi("Case 7"), by="@counsel:x", now=bench.at)


async def test_a_legal_hold_of_its_time_keeps_it_and_its_end_lets_it_go(bench: Bench) -> None:
    await bench.ask()
    bench.loop.note(SMS, "<", Phi(b"evidence"))
    await place(bench, Hold("1", HoldKind.NUMBER, "00", until=START + timedelta(hours=1)))
    bench.at += LENGTH + KEPT
    for _ in range(2):
        await bench.loop.step()
    assert await bench.shown() == [("<", b"evidence")]
    for destroyed_by in (bench.ask, bench.destroy):
        with pytest.raises(CaptureHeldError, match="hold 1 keeps"):
            await destroyed_by()
    async with bench.database.write() as connection:
        days = select(day_key.c.retention).join(data_key, data_key.c.day_key == day_key.c.id)
        assert HOLD_CLASS in (await connection.execute(days)).scalars().all()
        assert CAPTURE_CLASS not in (await connection.execute(days)).scalars().all()
        await holds.lift(connection, "1", "@counsel:x", bench.at)
    await bench.loop.step()
    async with bench.database.read() as connection:
        assert await captures.known(connection) == []


async def test_a_legal_hold_of_another_time_does_not_keep_it(bench: Bench) -> None:
    await bench.ask()
    await place(bench, Hold("1", HoldKind.RANGE, until=START))
    await place(bench, Hold("2", HoldKind.RANGE, start=START + LENGTH))
    bench.at += LENGTH + KEPT
    await bench.loop.step()
    async with bench.database.read() as connection:
        assert await captures.known(connection) == []
