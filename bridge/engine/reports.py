"""Tells the sources of events how far their pages have come, and what clinicians answer.

What is told is a row first, and is told under the same id until the source has taken it: it hears everything at
least once, in order, and can tell a repetition by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import structlog

from bridge.engine.rulebook import Clock
from bridge.ledger import Action, Record
from bridge.model.errors import ReportError
from bridge.model.ids import ChannelId
from bridge.model.report import Reporter
from bridge.store import ledger, reports
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.reports import Due

BATCH = 32
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=10)
PATIENCE = timedelta(days=3)
LOOK_SECONDS = 1.0  # after which what has come further is seen

log = structlog.get_logger(__name__)


class Reports:
    """Asks the rows what is new, and each channel to tell it."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        reporters: Mapping[ChannelId, Reporter],
        *,
        now: Clock,
        tell: Callable[[ChannelId, str | None], Awaitable[None]],
    ) -> None:
        self._database = database
        self._keys = keys
        self._reporters = reporters
        self._now = now
        self._tell = tell
        self._in_trouble: set[ChannelId] = set()

    async def step(self) -> float | None:
        """Tell what is due. Returns the seconds until it must look again."""
        if not self._reporters:
            return None
        now, channels = self._now(), list(self._reporters)
        async with self._database.read() as connection:
            reached = await reports.untold(connection, channels, now - PATIENCE)
        if reached:
            async with self._database.write() as connection:
                await reports.note(connection, reached, now)
        async with self._database.read() as connection:
            waiting = await reports.due(connection, self._keys, channels, now, BATCH)
        told = await asyncio.gather(*map(self._take, waiting))
        return 0 if any(told) else LOOK_SECONDS

    async def _take(self, one: Due) -> bool:
        """Tell it once. False if it has to be told again."""
        try:
            wanted = await self._reporters[one.channel](one.report)
        except ReportError as error:
            return await self._put_off(one, error)
        state = "done" if wanted else "unwanted"
        async with self._database.write() as connection:
            if await reports.settle(connection, one.report.id, state) and wanted:
                await ledger.append(connection, [_record(one, "told")], self._now())
        if one.channel in self._in_trouble and wanted:
            self._in_trouble.discard(one.channel)
            await self._tell(one.channel, None)
        return True

    async def _put_off(self, one: Due, error: ReportError) -> bool:
        now = self._now()
        lost = not error.retry or now - one.report.at > PATIENCE
        log.warning(
            "report_postponed", report=one.report.id, channel=one.channel, reason=str(error), lost=lost
        )
        async with self._database.write() as connection:
            if lost:
                await reports.settle(connection, one.report.id, "failed", str(error))
                await ledger.append(connection, [_record(one, "not_told")], now)
            else:
                pause = min(FIRST_PAUSE * 2 ** min(one.attempts, 10), LONGEST_PAUSE)
                await reports.postpone(connection, one.report.id, now + pause, str(error))
        if one.channel not in self._in_trouble:
            self._in_trouble.add(one.channel)
            again = "it was not told" if lost else "it is told again"
            await self._tell(
                one.channel, f"the sender of a page can't be told what became of it ({error}); {again}"
            )
        return lost


def _record(one: Due, outcome: str) -> Record:
    objects = {"intake": one.report.intake, "report": one.report.id, "kind": one.report.kind.value}
    return Record(Action.REPORTED, objects=objects, outcome=outcome)
