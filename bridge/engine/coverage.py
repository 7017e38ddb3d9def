"""Whether the configuration in force leaves a minute uncovered, asked again whenever that can have changed.

A bridge that does not start reaches nobody, so one whose configuration has a gap runs, and says so loudly.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from bridge.config import Problem
from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.engine.rulebook import Rulebook
from bridge.policy.proof import prove

EVERY = timedelta(days=1)  # each day brings another one into the 90 days that the proof looks ahead
SHOWN = 5

log = structlog.get_logger(__name__)


class Coverage:
    """Proves what is in force at start, after every change of it, and once a day."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._proved: Rulebook | None = None
        self._again: datetime | None = None
        self._told: tuple[Problem, ...] = ()

    async def step(self) -> float | None:
        """Prove it if that is due, and tell operations what has turned up."""
        book, now = self._desk.rulebook(), self._desk.now()
        if book is self._proved and self._again is not None and now < self._again:
            return None
        problems = (await asyncio.to_thread(prove, book.config, now)).problems
        self._proved, self._again = book, now + EVERY
        count = len(problems)
        self._desk.pulse.say(
            "coverage", "proved" if not problems else f"{count} problems; run nightbell check"
        )
        if problems and problems != self._told:
            await self._tell(problems, now)
        self._told = problems
        return None

    async def _tell(self, problems: tuple[Problem, ...], now: datetime) -> None:
        for problem in problems:
            log.error("coverage_broken", problem=str(problem))
        shown = "\n".join(str(problem) for problem in problems[:SHOWN])
        text = f"🚨 The configuration in force does not reach somebody at every minute. Mend this:\n{shown}"
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, now)
        self._desk.bells.decided()
