"""A desk of the engine over a test's own rows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from bridge.engine.desk import Bells, Desk
from bridge.engine.pulse import Pulse
from bridge.engine.rulebook import Clock, LiveRulebook, Rulebook
from bridge.engine.situation import Situation
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from tests.policy.hospital import hospital


def desk(
    database: Database,
    keys: KeyRing,
    now: Clock,
    live: LiveRulebook | None = None,
    pulse: Pulse | None = None,
) -> Desk:
    """A desk whose bells nobody waits for, with the plainest hospital's rules if none are given."""
    return Desk(
        database,
        keys,
        IntakeStore(database, keys, now, lambda: None),
        live or LiveRulebook(Rulebook.of(hospital())),
        Situation(now),
        pulse or Pulse(now, CollectorRegistry()),
        Bells(),
        now,
    )
