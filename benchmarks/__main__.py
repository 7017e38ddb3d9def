"""`make bench`: prints a table of what was measured, and on what."""

import asyncio
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import floor, ladders, retention, routing
from benchmarks.figures import Usage, machine, milliseconds, percentile
from benchmarks.ward import line, write_ward
from testbed.clinician import Clinician
from testbed.hospital import Hospital

ROOMS = 32
EACH = 10  # texts for each room in the sustained run
SINGLE = 60  # texts one after another, for latency
TAPS = ("✅", "❌")  # what the bridge puts under each page
INTAKE_RATE = 100  # requests a second with the homeserver down
INTAKE_SECONDS = 20

RECEIVED_TO_SENT = (
    "SELECT (outbox.sent_at - intake.received_at) / 1e6 FROM outbox JOIN page ON page.id = outbox.page "
    "JOIN intake ON intake.id = page.intake WHERE purpose = 'page'"
)

console = Console(width=110)


async def main() -> None:
    """Measure everything, one after another, against the same Synapse."""
    directory = Path(tempfile.mkdtemp(prefix="nightbell-bench-"))
    table = Table("what", "bridge", "bare floor", "goal", title=f"Nightbell on {machine()}")
    try:
        async with ward(directory, ROOMS) as (hospital, ada):
            await latency(hospital, ada, table)
            await throughput(hospital, ada, table)
            await intake(hospital, table)
        table.add_row(*await ladders.measured())
        if rooms := int(os.environ.get("ROOMS", "0")):
            await memory(directory / "many", rooms, table)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    console.print(table)
    console.print(routing.table())
    await retention.main()


@asynccontextmanager
async def ward(directory: Path, roles: int) -> AsyncIterator[tuple[Hospital, Clinician]]:
    """A hospital with so many roles, its rooms made and joined and their keys shared."""
    started = time.monotonic()

    def tell(what: str) -> None:
        console.log(f"{time.monotonic() - started:6.1f} s  {what}")

    config = write_ward(directory / "config", roles)
    hospital = Hospital(directory, config=config, staff=("okafor", "operator"), progress=tell)
    try:
        await hospital.open(bridge=False)
        ada = await hospital.clinician("okafor")
        await hospital.bridge.start()
        tell(f"{roles} rooms are made and joined")
        while len(shared_rooms(hospital)) < roles + 1:  # and the switchboard's
            await asyncio.sleep(1)
            tell(f"{len(shared_rooms(hospital))} of {roles + 1} rooms ready")
        yield hospital, ada
    finally:
        await hospital.close()


def shared_rooms(hospital: Hospital) -> list[str]:
    """The role rooms whose keys are shared, from the bridge's own rows."""
    query = (
        "SELECT DISTINCT room.room_id FROM room JOIN session_recipient USING (room_id) "
        "WHERE outcome = 'shared' AND destination LIKE 'role:role%' OR destination = 'role:switchboard'"
    )
    return rows(hospital, query)


def rows(hospital: Hospital, query: str) -> list[str]:
    """The first column of a query over the bridge's database."""
    file = hospital.bridge.directory / "nightbell.db"
    if not file.exists():
        return []
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute(query)]


async def latency(hospital: Hospital, ada: Clinician, table: Table) -> None:
    """From the call center's request to the clinician's decrypted message, each beside a bare send."""
    room = shared_rooms(hospital)[:1]
    device = rows(hospital, "SELECT device FROM sync_position")[0]
    acknowledged, decrypted, bare = [], [], []
    for number in range(SINGLE):
        took, _ = await floor.put_all(hospital, room, 1, device)
        bare += took
        words = f"latency {number} of the evening"
        asked = time.monotonic()
        await hospital.text(words, to=line(0))
        acknowledged.append(time.monotonic() - asked)
        decrypted.append((await ada.message(words)).seen - asked)
        await asyncio.sleep(0.15)  # the seeded reaction is on its way, too
    table.add_row("text acknowledged, p50 / p99", pair(acknowledged), "", "")
    table.add_row("text → decrypted at a client, p50 / p99", pair(decrypted), "", "")
    inside = [float(value) for value in rows(hospital, RECEIVED_TO_SENT)]
    table.add_row("text → in the room, p50 / p99", pair(inside), pair(bare), "")
    added = percentile(inside, 50) - percentile(bare, 50)
    table.add_row("added to the floor's p50", milliseconds(added), "", "≤ 15 ms")


async def throughput(hospital: Hospital, ada: Clinician, table: Table) -> None:
    """A burst over all rooms, beside the same number of events put bare."""
    rooms = shared_rooms(hospital)[:ROOMS]
    device = rows(hospital, "SELECT device FROM sync_position")[0]
    before = Usage.of(hospital.bridge.pid)
    sent = "SELECT count(*) FROM outbox WHERE state = 'sent'"
    earlier, earlier_pages = (
        int(rows(hospital, query)[0]) for query in (sent, f"{sent} AND purpose = 'page'")
    )
    started = time.monotonic()
    await asyncio.gather(*(burst(hospital, number) for number in range(ROOMS)))
    acknowledged = time.monotonic() - started
    await counted(hospital, f"{sent} AND purpose = 'page'", earlier_pages + ROOMS * EACH)
    pages = time.monotonic() - started
    await counted(hospital, sent, earlier + ROOMS * EACH * (1 + len(TAPS)))
    whole = time.monotonic() - started
    after = Usage.of(hospital.bridge.pid)
    _, bare_pages = await floor.put_all(hospital, rooms, EACH, device)
    _, bare = await floor.put_all(hospital, rooms, EACH, device, taps=TAPS)
    table.add_row("burst acknowledged", f"{ROOMS * EACH / acknowledged:.0f} texts/s", "", "")
    for what, events, took, floors in (
        ("pages", ROOMS * EACH, pages, bare_pages),
        ("pages with their buttons", ROOMS * EACH * (1 + len(TAPS)), whole, bare),
    ):
        rate, bare_rate = f"{events / took:.1f} events/s", f"{events / floors:.1f} events/s"
        table.add_row(f"{events} {what}, {ROOMS} rooms", rate, bare_rate, "")
        table.add_row("  ratio to the floor", f"{floors / took:.2f}", "1", "≥ 0.9")
    texts = ROOMS * EACH
    table.add_row("bridge's CPU per text", milliseconds((after.cpu - before.cpu) / texts), "", "")
    table.add_row(f"bridge's memory, {ROOMS} rooms", f"{after.memory / 2**20:.0f} MiB", "", "")
    lost = {f"burst {n}-{i} of" for n in range(ROOMS) for i in range(EACH)}
    lost -= {
        " ".join(word for word in m.body.split("\n")[3].split()[:3])
        for m in ada.messages
        if "burst" in m.body
    }
    console.log(f"not decrypted by the client: {len(lost)}")


async def counted(hospital: Hospital, query: str, wanted: int) -> None:
    """Wait until a count in the bridge's database is reached."""
    while int(rows(hospital, query)[0]) < wanted:
        await asyncio.sleep(0.02)


async def burst(hospital: Hospital, number: int) -> None:
    for index in range(EACH):
        answer = await hospital.text(f"burst {number}-{index} of the evening", to=line(number))
        if not answer.accepted:
            raise RuntimeError(f"a text was answered {answer.status}")


async def intake(hospital: Hospital, table: Table) -> None:
    """Acknowledgement at a fixed rate while the homeserver is down."""
    await hospital.synapse.stop()
    took: list[float] = []

    async def one(number: int) -> None:
        asked = time.monotonic()
        answer = await hospital.text(f"dark {number}", to=line(number % ROOMS))
        took.append(time.monotonic() - asked)
        if not answer.accepted:
            raise RuntimeError(f"a text was answered {answer.status}")

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(INTAKE_RATE * INTAKE_SECONDS):
            await asyncio.sleep(max(0.0, started + number / INTAKE_RATE - time.monotonic()))
            group.create_task(one(number))
    table.add_row(
        f"acknowledged at {INTAKE_RATE}/s, homeserver down, p50 / p99", pair(took), "", "p99 < 50 ms"
    )


async def memory(directory: Path, rooms: int, table: Table) -> None:
    """The bridge's memory with many rooms, after a page in each of a few."""
    async with ward(directory, rooms) as (hospital, ada):
        for number in range(10):
            await hospital.text(f"memory {number} here", to=line(number))
            await ada.message(f"memory {number} here")
        used = Usage.of(hospital.bridge.pid).memory
        table.add_row(
            f"bridge's memory, {rooms} rooms", f"{used / 2**20:.0f} MiB", "", "< 120 MiB with 1,000"
        )


def pair(values: list[float]) -> str:
    return f"{milliseconds(percentile(values, 50))} / {milliseconds(percentile(values, 99))}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
