"""Who came to a door and was not let in: counted, and told to the ledger in a bounded number of records."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from bridge.engine.rulebook import Clock
from bridge.ledger import Action, Record
from bridge.model.ids import ChannelId
from bridge.store import ledger
from bridge.store.database import Database

# Who knocks without a secret must not decide how much is written: at most one record a channel and reason in this time.
EVERY = timedelta(minutes=1)
# The words with which doors refuse access; see `bridge.channels`. What is only malformed or too much is no access.
ACCESS = frozenset(
    {
        "bad_secret",
        "bad_signature",
        "login_refused",
        "refused_401",  # WCTP's own codes: an unknown sender, a wrong security code
        "refused_402",
        "stale_timestamp",
        "unknown_peer",
        "wrong_account",
    }
)


class Refusals:
    """Counts refused access at the doors. What was counted since the last record is lost with the process."""

    def __init__(self, database: Database, *, now: Clock) -> None:
        self._database = database
        self._now = now
        self._counted: Counter[tuple[ChannelId, str]] = Counter()
        self._next: datetime | None = None

    def count(self, channel: ChannelId, outcome: str) -> None:
        """Something came to a channel, and this became of it."""
        if outcome in ACCESS:
            self._counted[channel, outcome] += 1

    async def step(self) -> None:
        """Record what was refused since the last time, unless that is too short ago."""
        now = self._now()
        if not self._counted or (self._next is not None and now < self._next):
            return
        counted, self._counted = self._counted, Counter()
        records = [
            Record(Action.REFUSED, objects={"channel": channel, "times": times}, outcome=outcome)
            for (channel, outcome), times in sorted(counted.items())
        ]
        try:
            async with self._database.write() as connection:
                await ledger.append(connection, records, now)
        except BaseException:
            self._counted += counted
            raise
        self._next = now + EVERY
