"""Who came to a door and was not let in: counted, and told to the ledger in a bounded number of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from bridge.engine import operations
from bridge.engine.rulebook import Clock
from bridge.ledger import Action, Record
from bridge.model.ids import ChannelId
from bridge.store import ledger
from bridge.store.database import Database
from bridge.store.keys import KeyRing

# Who knocks without a secret must not decide how much is written: at most one record a channel and reason in this time.
EVERY = timedelta(minutes=1)
STALE = "stale_timestamp"  # rightly signed, at a time that is too far from the bridge's
STALE_EVERY = timedelta(hours=1)  # is told operations of a channel
# The words with which doors refuse access; see `bridge.channels`. What is only malformed or too much is no access.
ACCESS = frozenset(
    {
        "bad_secret",
        "bad_signature",
        "login_refused",
        "refused_401",  # WCTP's own codes: an unknown sender, a wrong security code
        "refused_402",
        STALE,
        "unknown_peer",
        "wrong_account",
    }
)


class Refusals:
    """Counts refused access at the doors. What was counted since the last record is lost with the process."""

    def __init__(self, database: Database, keys: KeyRing, *, now: Clock, wake: Callable[[], None]) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._wake = wake
        self._counted: Counter[tuple[ChannelId, str]] = Counter()
        self._next: datetime | None = None
        self._stale: dict[ChannelId, datetime] = {}  # when operations were told

    def count(self, channel: ChannelId, outcome: str) -> None:
        """Something came to a channel, and this became of it."""
        if outcome in ACCESS:
            self._counted[channel, outcome] += 1

    async def step(self) -> None:
        """Record what was refused since the last time, unless that is too short ago."""
        now = self._now()
        if not self._counted or (self._next is not None and now < self._next <= now + EVERY):
            return
        counted, self._counted = self._counted, Counter()
        stale = sorted(
            channel for channel, outcome in counted if outcome == STALE and self._is_news(channel, now)
        )
        records = [
            Record(Action.REFUSED, objects={"channel": channel, "times": times}, outcome=outcome)
            for (channel, outcome), times in sorted(counted.items())
        ]
        try:
            async with self._database.write() as connection:
                await ledger.append(connection, records, now)
                for channel in stale:
                    await operations.tell(
                        connection, self._keys, _too_far(channel, counted[channel, STALE]), now
                    )
        except BaseException:
            self._counted += counted
            raise
        self._next = now + EVERY
        self._stale |= dict.fromkeys(stale, now)
        if stale:
            self._wake()

    def _is_news(self, channel: ChannelId, now: datetime) -> bool:
        told = self._stale.get(channel)
        return told is None or abs(now - told) >= STALE_EVERY


def _too_far(channel: ChannelId, times: int) -> str:
    requests = "a rightly signed request was" if times == 1 else f"{times} rightly signed requests were"
    return (
        f"⚠️ {channel}: {requests} refused: the signed time is too far from this machine's clock. One of both clocks is "
        "wrong, or somebody replays what was sent before."
    )
