"""How late the steps of ladders come in normal running. `python -m benchmarks.ladders`."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import milliseconds, percentile
from testbed.hospital import Hospital
from testbed.wards import Ward, ward_config

WARDS = tuple(
    Ward(f"ward-{number}", ("okafor", "lindqvist"), f"+1555010{number:04}", ladder="brisk")
    for number in range(10)
)
EACH = 4  # pages for each ward
PACE = 0.5  # seconds between two texts: more than a large hospital has at night
STEPS = 3  # of the ladder "brisk", a second apart
LATE = re.compile(r"page_climbed.* late_seconds=([0-9.]+)")


async def climbs(directory: Path) -> list[float]:
    """By how many seconds each step came late, of pages that nobody accepts."""
    config = ward_config(directory / "config", WARDS)
    async with Hospital(directory, config=config) as hospital:
        for name in ("okafor", "lindqvist", "operator"):
            await hospital.clinician(name)
        await asyncio.sleep(10)  # until everybody has the keys of all rooms
        for number in range(EACH):
            for ward in WARDS:
                await hospital.text(f"nobody accepts {number}", to=ward.number)
                await asyncio.sleep(PACE)
        await asyncio.sleep(STEPS + 10)
        return [float(found) for found in LATE.findall(hospital.bridge.log_path.read_text())]


def row(late: Sequence[float]) -> tuple[str, str, str, str]:
    """The line of the table."""
    figures = " / ".join(
        milliseconds(value) for value in (percentile(late, 50), percentile(late, 99), max(late))
    )
    return (f"step of a ladder late, {len(late)} steps, p50 / p99 / max", figures, "", "< 1 s")


async def measured() -> tuple[str, str, str, str]:
    """Measure it in a hospital of its own."""
    directory = Path(tempfile.mkdtemp(prefix="nightbell-ladders-"))
    try:
        return row(await climbs(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    table = Table("what", "bridge", "bare floor", "goal")
    table.add_row(*asyncio.run(measured()))
    Console(width=110).print(table)
