"""Proof that nothing was lost: a source that can be asked is asked, and what the inbox lacks of its answer is taken.

A webhook that never came, a bridge that was down, a connection that was cut: the next look finds what they lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.engine.messages import message, replacement
from bridge.model.doors import OPERATIONS
from bridge.model.errors import NightbellError, SourceError
from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.policy.rendering import PageText, as_html
from bridge.store import outbox, reconciliations
from bridge.store.outbox import Draft, Purpose
from bridge.store.reconciliations import Reconciled

EVERY = timedelta(minutes=5)
SETTLE = timedelta(minutes=1)  # what is younger may still be on its way
OVERLAP = timedelta(
    hours=1
)  # what a source lists late, or by a clock that is slow by so much, is found all the same
LONGEST = timedelta(days=1)  # asked for at once, after a long time away
LINE_EVERY = timedelta(hours=1)  # the line of a day is edited this often, and whenever something was missing
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=10)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Meters:
    """What metrics tell of all channels' reconciliation."""

    through: Gauge
    missing: Counter
    failures: Counter

    @classmethod
    def of(cls, registry: CollectorRegistry) -> Meters:
        """Register them, once."""
        through = "Unix time through which everything that the source knows is in the inbox"
        missing = "Events that the source had to be asked for"
        failures = "Times that the source could not be asked"
        return cls(
            Gauge("nightbell_reconciled_through_seconds", through, ["channel"], registry=registry),
            Counter("nightbell_reconciled_missing", missing, ["channel"], registry=registry),
            Counter("nightbell_reconcile_failures", failures, ["channel"], registry=registry),
        )


@dataclass(slots=True)
class Reconciliation:
    """One channel's."""

    desk: Desk
    channel: ChannelId
    recount: Callable[[datetime, datetime], Awaitable[Sequence[IntakeEvent]]]
    meters: Meters
    due: datetime | None = None
    pause: timedelta = FIRST_PAUSE
    trouble: str | None = field(default=None)

    async def step(self) -> float | None:
        """Ask if it is time to; take what is missing. Returns when to look again."""
        now = self.desk.now()
        # A time that lies further ahead was set before the clock was set back.
        if self.due is not None and now < self.due <= now + LONGEST_PAUSE:
            return (self.due - now).total_seconds()
        state = _within(await self._state(now), now)
        until = max(state.through, min(now - SETTLE, state.through + LONGEST))
        try:
            told = await self.recount(max(state.began, state.through - OVERLAP), until)
        except SourceError as error:
            await self._failed(str(error))
            return None
        except NightbellError:
            raise
        except Exception as error:  # what a source answers may be anything: operations hear of it, too
            log.exception("reconcile_crashed", channel=self.channel, error=type(error).__name__)
            await self._failed(f"a fault of the bridge, {type(error).__name__}; its log says where")
            return None
        missing = 0
        for event in await self.desk.inbox.missing(told):
            missing += not (await self.desk.inbox.accept(event)).duplicate
        await self._done(state, until, missing)
        self.due = self.desk.now() + EVERY if until >= now - SETTLE else None
        return None

    async def _state(self, now: datetime) -> Reconciled:
        """How far it is. It begins when it is first looked at: what a source knows of before is somebody else's."""
        async with self.desk.database.read() as connection:
            known = await reconciliations.get(connection, self.channel)
        if known is not None:
            return known
        begun = Reconciled(now - SETTLE, now - SETTLE)
        async with self.desk.database.write() as connection:
            await reconciliations.put(connection, self.channel, begun)
        return begun

    async def _failed(self, trouble: str) -> None:
        self.meters.failures.labels(self.channel).inc()
        log.warning("reconcile_failed", channel=self.channel, trouble=trouble)
        self.due = self.desk.now() + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        self.desk.pulse.say(f"reconcile {self.channel}", trouble)
        if trouble != self.trouble:
            text = f"⚠️ {self.channel} can't be reconciled: {trouble}. It is tried again."
            async with self.desk.database.write() as connection:
                await operations.tell(connection, self.desk.keys, text, self.desk.now())
            self.trouble = trouble
            self.desk.bells.deliver.ring()

    async def _done(self, state: Reconciled, until: datetime, missing: int) -> None:
        now, zone = self.desk.now(), self.desk.rulebook().config.roster.time_zone
        day = until.astimezone(zone).date().isoformat()
        if day != state.day:
            state = replace(state, day=day, missing=0, line=None, said_at=None)
        due = state.said_at is None or now - state.said_at >= LINE_EVERY
        state = replace(state, through=until, missing=state.missing + missing)
        clock = f"{until.astimezone(zone):%H:%M:%S}"
        async with self.desk.database.write() as connection:
            if missing:
                text = (
                    f"⚠️ {self.channel}: {missing} events had not come in; they were asked for and taken. "
                    "See whether its source can reach the bridge."
                )
                await operations.tell(connection, self.desk.keys, text, now)
            if missing or due or self.trouble:
                text = f"{self.channel}: reconciled through {clock}, {state.missing} missing"
                state = await self._say(connection, state, text, now)
            await reconciliations.put(connection, self.channel, state)
        self.meters.through.labels(self.channel).set(until.timestamp())
        self.meters.missing.labels(self.channel).inc(missing)
        log.info("reconciled", channel=self.channel, missing=missing)
        self.desk.pulse.say(f"reconcile {self.channel}", f"through {until:%Y-%m-%dT%H:%M:%SZ}")
        self.pause, self.trouble = FIRST_PAUSE, None
        self.desk.bells.deliver.ring()

    async def _say(
        self, connection: AsyncConnection, state: Reconciled, text: str, now: datetime
    ) -> Reconciled:
        """The line of the day: a message at first, and edits of it then, which ring nobody."""
        key = await self.desk.keys.new_data_key(connection, operations.OPERATIONS_CLASS, now)
        shown = PageText(Phi(text), Phi(as_html(text)), (), notice=True)
        if state.line is None:
            draft = Draft(OPERATIONS, Purpose.NOTICE, message(shown), key)
            state = replace(state, line=draft.transaction)
        else:
            draft = Draft(OPERATIONS, Purpose.STATUS, replacement(shown), key, target=state.line)
        await outbox.put(connection, [draft], now)
        return replace(state, said_at=now)


def _within(state: Reconciled, now: datetime) -> Reconciled:
    """The state; if the clock has been set back, one of a day ago, for nobody knows since when it was wrong."""
    if state.through <= now:
        return state
    log.warning("reconcile_clock_set_back", seconds=round((state.through - now).total_seconds()))
    began = min(state.began, now - SETTLE)
    return replace(state, began=began, through=max(began, now - SETTLE - LONGEST))
