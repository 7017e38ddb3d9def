"""Tells the sources of events how far their pages have come, and what clinicians answer.

What is told is a row first, and is told under the same id until the source has taken it: it hears everything at
least once, in order, and can tell a repetition by its id. A source that can't be reached fetches it (`received`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine.rulebook import Clock
from bridge.ledger import Action, Record
from bridge.model.errors import ReportError
from bridge.model.ids import ChannelId
from bridge.model.report import Fetches, Reporter, Waiting
from bridge.store import ledger, reports
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.reports import Due, Held

BATCH = 32
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=10)
PATIENCE = timedelta(days=3)
FETCHED_WITHIN = timedelta(minutes=15)  # after which operations hear that nobody fetches
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
        self._unfetched: set[ChannelId] = set()
        self._released = False

    async def step(self) -> float | None:
        """Tell what is due. Returns the seconds until it must look again."""
        if not self._reporters:
            return None
        now, channels = self._now(), list(self._reporters)
        if not self._released:  # the configuration may be another one since
            async with self._database.write() as connection:
                await reports.release(connection, channels)
            self._released = True
        async with self._database.read() as connection:
            reached = await reports.untold(connection, channels, now - PATIENCE)
        if reached:
            async with self._database.write() as connection:
                await reports.note(connection, reached, now)
        async with self._database.read() as connection:
            waiting = await reports.due(connection, self._keys, channels, now, BATCH)
            unfetched = await reports.unfetched(connection, channels, now - FETCHED_WITHIN, BATCH)
        given_up = await self._look_after(unfetched, now)
        told = await asyncio.gather(*map(self._take, waiting), return_exceptions=True)
        for failed in told:
            if isinstance(failed, BaseException):
                raise failed
        return 0 if given_up or any(told) else LOOK_SECONDS

    async def _take(self, one: Due) -> bool:
        """Tell it once. False if it has to be told again."""
        try:
            wanted = await self._reporters[one.channel](one.report)
        except ReportError as error:
            return await self._put_off(one, error)
        if isinstance(wanted, Fetches):
            async with self._database.write() as connection:
                await reports.hold(connection, one.report.id, wanted.poller)
            return True
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
        async with self._database.write() as connection:
            lost = await _not_told(connection, one, error, now)
            await ledger.append(connection, lost, now)
        if one.channel not in self._in_trouble:
            self._in_trouble.add(one.channel)
            again = "it was not told" if lost else "it is told again"
            await self._tell(
                one.channel, f"the sender of a page can't be told what became of it ({error}); {again}"
            )
        return bool(lost)

    async def _look_after(self, unfetched: Sequence[Held], now: datetime) -> bool:
        """Give up what nobody came for. True if there was any."""
        given_up = [one for one in unfetched if now - one.at > PATIENCE]
        if given_up:
            error = ReportError("nobody fetched it", retry=False)
            async with self._database.write() as connection:
                lost = [each for one in given_up for each in await _not_told(connection, one, error, now)]
                await ledger.append(connection, lost, now)
        for channel, poller in {one.channel: one.poller for one in unfetched}.items():
            if channel not in self._unfetched:
                self._unfetched.add(channel)
                minutes = FETCHED_WITHIN // timedelta(minutes=1)
                trouble = (
                    f"{poller} has not taken what became of a page for {minutes} minutes;"
                    " it is kept for three days, until it is fetched and acknowledged"
                )
                await self._tell(channel, trouble)
        for channel in self._unfetched - {one.channel for one in unfetched}:
            self._unfetched.discard(channel)
            await self._tell(channel, None)
        return bool(given_up)


async def waiting(
    channel: ChannelId, poller: str, most: int, *, database: Database, keys: KeyRing, now: Clock
) -> list[Waiting]:
    """What a poller is to be given; it stays the same until `received`."""
    async with database.read() as connection:
        return await reports.waiting(connection, keys, channel, poller, now=now(), limit=most)


async def received(
    channel: ChannelId,
    poller: str,
    verdicts: Mapping[int, ReportError | None],
    *,
    database: Database,
    now: Clock,
) -> None:
    """A poller has taken these, or says of one why it can't. What it was never given, or took before, is left alone."""
    async with database.write() as connection:
        records: list[Record] = []
        for one in await reports.held(connection, channel, poller, verdicts):
            error = verdicts[one.number]
            if error is not None:
                records += await _not_told(connection, one, error, now())
            elif await reports.settle(connection, one.id, "done"):
                records.append(_record(one, "told"))
        await ledger.append(connection, records, now())


async def _not_told(
    connection: AsyncConnection, one: Due | Held, error: ReportError, now: datetime
) -> list[Record]:
    """The source did not take it. Returns what the ledger is to know, if it is not told again."""
    told = one.report if isinstance(one, Due) else one
    lost = not error.retry or now - told.at > PATIENCE
    log.warning("report_postponed", report=told.id, channel=one.channel, reason=str(error), lost=lost)
    if lost:
        await reports.settle(connection, told.id, "failed", str(error))
        return [_record(one, "not_told")]
    pause = min(FIRST_PAUSE * 2 ** min(one.attempts, 10), LONGEST_PAUSE)
    await reports.postpone(connection, told.id, now + pause, str(error))
    return []


def _record(one: Due | Held, outcome: str) -> Record:
    told = one.report if isinstance(one, Due) else one
    objects = {"intake": told.intake, "report": told.id, "kind": told.kind.value}
    return Record(Action.REPORTED, objects=objects, outcome=outcome)
