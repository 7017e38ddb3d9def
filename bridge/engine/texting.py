"""Sends the fixed words of rules to whoever wrote, where a source passes on nothing that it is answered.

What is owed is a row before the source has its answer. That it is about to be sent is another commit: of what may have
gone out before a kill, only what the provider recognises under its key is sent again, so that nobody is texted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import structlog

from bridge.engine.replies import OPT_OUT
from bridge.engine.rulebook import Clock
from bridge.ledger import Action, Record
from bridge.model.doors import Texter
from bridge.model.errors import ReportError
from bridge.model.ids import ChannelId
from bridge.store import ledger, replies
from bridge.store.database import Database
from bridge.store.inbox import CALLER
from bridge.store.keys import KeyRing
from bridge.store.replies import Owed

BATCH = 32
FIRST_PAUSE = timedelta(seconds=5)
PATIENCE = timedelta(minutes=10)  # "we have called a doctor" is of no use later
IN_DOUBT = "it may have been sent before the bridge was stopped"

log = structlog.get_logger(__name__)


class Texting:
    """Asks the rows what is owed, and each channel to send it."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        texters: Mapping[ChannelId, Texter],
        *,
        now: Clock,
        tell: Callable[[ChannelId, str | None], Awaitable[None]],
    ) -> None:
        self._database = database
        self._keys = keys
        self._texters = texters
        self._now = now
        self._tell = tell
        self._in_trouble: set[ChannelId] = set()

    async def step(self) -> float | None:
        """Send what is owed now. Returns 0 if there may be more."""
        if not self._texters:
            return None
        now = self._now()
        async with self._database.read() as connection:
            late = await replies.too_late(connection, now - PATIENCE, BATCH)
        if late:
            async with self._database.write() as connection:
                for intake, _ in late:
                    await replies.settle(connection, intake, "failed", "it could not be sent in time")
                given_up = [
                    Record(
                        Action.REPLIED, objects={"intake": one}, outcome="in_doubt" if begun else "not_told"
                    )
                    for one, begun in late
                ]
                await ledger.append(connection, given_up, now)
        async with self._database.read() as connection:
            owed = await replies.owed(connection, self._keys, list(self._texters), now, BATCH)
        willing = [one for one in owed if await self._may_be_sent(one, now)]
        if willing:
            async with self._database.write() as connection:
                await replies.begin(connection, [one.intake for one in willing], now)
        for failed in await asyncio.gather(*map(self._send, willing), return_exceptions=True):
            if failed is not None:
                raise failed
        return 0 if owed or late else None

    async def _may_be_sent(self, one: Owed, now: datetime) -> bool:
        if one.begun and not self._texters[one.channel].repeats:
            await self._settle(one, "failed", "in_doubt", now, IN_DOUBT)
            await self._trouble(one.channel, IN_DOUBT)
            return False
        number = self._keys.lookup(f"{OPT_OUT} {one.channel}", one.event.caller) if one.event.caller else b""
        async with self._database.read() as connection:
            consents = await replies.consents(connection, number)
        if not consents:  # who has said so since
            await self._settle(one, "unwanted", "opted_out", now)
        return consents

    async def _send(self, one: Owed) -> None:
        try:
            sent = await self._texters[one.channel].send(one.event, one.text, one.intake)
        except ReportError as error:
            await self._not_sent(one, error)
            return
        await self._settle(one, *(("done", "told") if sent else ("unwanted", "no_number")), self._now())
        if sent and one.channel in self._in_trouble:
            self._in_trouble.discard(one.channel)
            await self._tell(one.channel, None)

    async def _not_sent(self, one: Owed, error: ReportError) -> None:
        now = self._now()
        log.warning("reply_not_sent", intake=one.intake, channel=one.channel, reason=str(error))
        if error.retry:
            pause = FIRST_PAUSE * 2 ** min(one.attempts, 6)
            async with self._database.write() as connection:
                surely = not self._texters[one.channel].repeats  # which says so only of what was not sent
                await replies.put_off(connection, one.intake, now + pause, str(error), surely=surely)
        else:
            await self._settle(one, "failed", "not_told", now, str(error))
        await self._trouble(
            one.channel, f"{error}; {'it is tried again' if error.retry else 'it was not sent'}"
        )

    async def _trouble(self, channel: ChannelId, why: str) -> None:
        if channel not in self._in_trouble:
            self._in_trouble.add(channel)
            await self._tell(channel, f"the auto_reply to a text could not be sent ({why}); its page goes on")

    async def _settle(
        self, one: Owed, state: str, outcome: str, now: datetime, error: str | None = None
    ) -> None:
        patient = self._keys.lookup(CALLER, one.event.caller) if one.event.caller is not None else None
        record = Record(Action.REPLIED, objects={"intake": one.intake}, outcome=outcome, patient=patient)
        async with self._database.write() as connection:
            if await replies.settle(connection, one.intake, state, error):
                await ledger.append(connection, [record], now)
