"""Figures of a measured run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` percent of the values lie."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[round(share) - 1]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of CPU, and bytes of memory that are its own now."""

    cpu: float
    memory: int

    @classmethod
    def of(cls, pid: int | None) -> "Usage":
        process = psutil.Process(pid)
        times = process.cpu_times()
        return cls(times.user + times.system, process.memory_info().rss)


def machine() -> str:
    """What these figures were measured on."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({names[0] if names else 'unknown'}), {memory:.0f} GiB"
