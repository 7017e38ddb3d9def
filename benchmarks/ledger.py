"""How fast a ledger is written and verified: `python -m benchmarks.ledger`."""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.figures import machine
from bridge import ledger as chain
from bridge.ledger import Action, Head, Record
from bridge.model.ids import PageId
from bridge.store import ledger
from bridge.store.database import Database

RECORDS = 200_000
BATCH = 50
BATCHES = 200
RECORD = Record(
    Action.SENT,
    page=PageId("5f0c1d2e3a4b5c6d7e8f901122334455"),
    objects={"purpose": "page", "room": "!kXbTqZhMwYvPnRsLdC", "event": "$" + "x" * 43, "session": "s" * 43},
)


def main() -> None:
    """Print what was measured, and on what."""
    now, key = datetime.now(UTC), Ed25519PrivateKey.generate()
    links = chain.chain(Head(), [RECORD] * RECORDS, now)
    signed = chain.sign(Head(links[-1].seq, links[-1].hash), now, key)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "ledger.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in chain.lines_of(links, [signed]))
        started = time.perf_counter()
        with file.open(encoding="utf-8") as lines:
            verdict = chain.verify(lines, key.public_key())
        took = time.perf_counter() - started
        if verdict.problem:
            raise SystemExit(verdict.problem)
        print(f"{machine()}\nverified: {RECORDS / took:,.0f} records/s (goal: 50,000)")
        appended = asyncio.run(append(f"sqlite:///{directory}/ledger.db"))
        print(f"appended, {BATCH} in a transaction: {BATCH * BATCHES / appended:,.0f} records/s")


async def append(url: str) -> float:
    database = Database(url)
    await database.migrate()
    started = time.perf_counter()
    for _ in range(BATCHES):
        async with database.write() as connection:
            await ledger.append(connection, [RECORD] * BATCH, datetime.now(UTC))
    took = time.perf_counter() - started
    await database.close()
    return took


if __name__ == "__main__":
    main()
