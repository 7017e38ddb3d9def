# ruff: noqa: ARG002 - a stand-in for the homeserver looks at nothing
"""A sweep over many pages while others come in; `ROWS=1000000 python -m benchmarks.retention` says how many."""

import asyncio
import os
import resource
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.figures import machine, milliseconds, percentile
from bridge.config.retention import RetentionClass, RetentionConfig
from bridge.engine.retain import Retention
from bridge.engine.rulebook import CurrentRulebook
from bridge.model.doors import Presence, Purge, Upload
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, EventId, RetentionClassId, RoomId
from bridge.model.phi import Phi
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.vault import Vault

ROWS = int(os.environ.get("ROWS", "100000"))
ROOMS = 200
STANDARD = RetentionClassId("standard")
NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=40)
MICROSECONDS = round(OLD.timestamp() * 1_000_000)


class NoHomeserver:
    """Knows nothing, so that only the bridge's own work is measured."""

    async def related(self, room: RoomId, event: EventId) -> list[EventId]:
        return []

    async def redact(self, room: RoomId, event: EventId, transaction: str) -> EventId | None:
        return EventId(f"{event}-redaction")

    async def purge(self, room: RoomId, before: EventId) -> Purge:
        return Purge.DONE

    async def mark(self, room: RoomId, transaction: str) -> EventId | None:
        return None

    async def delete_file(self, upload: Upload) -> Presence:
        return Presence.PURGED

    async def forget_keys(self, before: datetime) -> int:
        return 0

    async def look(self, room: RoomId, event: EventId) -> Presence:
        return Presence.PURGED


async def main() -> None:
    """Print what was measured, and on what."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "nightbell.db"
        database = Database(f"sqlite:///{file}")
        await database.migrate()
        keys = KeyRing(Vault(bytes(range(32))))
        await keys.claim(database, OLD)
        async with database.write() as connection:
            seal = (await keys.new_data_key(connection, STANDARD, OLD)).seal(Phi(b"x" * 200), "seed")
        seed(file, seal)
        config = RetentionConfig(classes={STANDARD: RetentionClass(keep=timedelta(days=30))})
        book = SimpleNamespace(
            config=SimpleNamespace(
                retention=config,
                nightbell=SimpleNamespace(encryption=SimpleNamespace(rotate_after=timedelta(days=7))),
            )
        )
        rulebook = cast("CurrentRulebook", lambda: book)
        sweeper = Retention(database, keys, NoHomeserver(), rulebook, now=lambda: datetime.now(UTC))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        inbox = IntakeStore(database, keys, lambda: datetime.now(UTC), lambda: None)
        idle = await paging(inbox, asyncio.create_task(asyncio.sleep(5)))
        started = time.perf_counter()
        sweep = asyncio.create_task(sweeper.step())
        busy = await paging(inbox, sweep)
        took = time.perf_counter() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(machine())
        print(f"{ROWS:,} pages destroyed and certified in {took:.0f} s ({ROWS / took:,.0f}/s)")
        print(f"memory grew by {grown / 1024:.0f} MiB")
        print(f"accepting an event, p50 / p99: {pair(idle)} alone, {pair(busy)} during the sweep")
        await database.close()


async def paging(inbox: IntakeStore, until: asyncio.Task[Any]) -> list[float]:
    """How long events take to be durable, 20 a second, until something has ended."""
    took = []
    while not until.done():
        started = time.perf_counter()
        event = IntakeEvent(ChannelId("sms"), Phi(str(started)), EventKind.TEXT, Phi("x"))
        await inbox.accept(event)
        took.append(time.perf_counter() - started)
        await asyncio.sleep(0.05)
    await until
    return took


def pair(took: list[float]) -> str:
    return f"{milliseconds(percentile(took, 50))} / {milliseconds(percentile(took, 99))}"


def seed(file: Path, sealed: bytes) -> None:
    """So many pages of one day that were closed, each with an event of its own and a message in a room."""
    with sqlite3.connect(file) as database:
        (day,) = database.execute("SELECT id FROM day_key WHERE retention = 'standard'").fetchone()
        database.executemany(
            "INSERT INTO data_key (id, day_key, wrapped) VALUES (?, ?, ?)",
            ((f"k{n}", day, sealed) for n in range(ROWS)),
        )
        database.executemany(
            "INSERT INTO intake (id, channel, key_mac, kind, data_key, sealed, received_at, state) "
            "VALUES (?, 'sms', ?, 'text', ?, ?, ?, 'done')",
            ((f"i{n}", f"m{n}".encode(), f"k{n}", sealed, MICROSECONDS) for n in range(ROWS)),
        )
        database.executemany(
            "INSERT INTO page (id, intake, rule, role, priority, ladder, template, retention, config_hash, why, "
            "state, opened_at, step, notified, closed_at, declined, latest_at, event_count) "
            "VALUES "
            "(?, ?, 'r', 'role', 'urgent', 'l', 't', 'standard', 'h', '[]', 'closed', ?, 0, '[]', ?, '[]', ?, 1)",
            ((f"p{n}", f"i{n}", MICROSECONDS, MICROSECONDS, MICROSECONDS) for n in range(ROWS)),
        )
        database.executemany(
            "INSERT INTO outbox (page, destination, purpose, event_type, lane, urgency, txn_id, state, attempts, "
            "not_before, room, event, created_at, sent_at) "
            "VALUES (?, 'role:role', 'page', 'm.room.message', 0, 0, ?, 'sent', 1, 0, ?, ?, ?, ?)",
            ((f"p{n}", f"t{n}", f"!r{n % ROOMS}", f"$e{n}", MICROSECONDS, MICROSECONDS) for n in range(ROWS)),
        )


if __name__ == "__main__":
    asyncio.run(main())
