"""`nightbell run` under a clock that a test moves: `python -m testbed.clocked CONFIG CLOCK`.

CLOCK is a file with the seconds by which the bridge's time differs from the machine's.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.cli.run import run_at


class MovedClock:
    """A clock that reads at every question how far it was moved."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self._file.read_text()))

    def move(self, to: datetime) -> None:
        """From now on it is `to`, and later."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str((to - datetime.now(UTC)).total_seconds()))
        fresh.replace(self._file)  # so that no reader finds it empty


if __name__ == "__main__":
    run_at(Path(sys.argv[1]), MovedClock(Path(sys.argv[2])))
