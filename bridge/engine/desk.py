"""The desk: what every loop of the engine works with, and the bells by which they wake each other."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.engine.loop import Wake
from bridge.engine.pulse import Pulse
from bridge.engine.rulebook import Clock, LiveRulebook
from bridge.engine.situation import Situation
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Bells:
    """One bell for each loop that others make work for."""

    dispatch: Wake
    deliver: Wake
    escalate: Wake
    answers: Wake
    arrivals: Wake
    devices: Wake
    readiness: Wake
    receipts: Wake
    shifts: Wake
    reload: Wake
    retain: Wake
    media: Wake
    report: Wake
    texting: Wake

    def __init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, Wake())

    def decided(self) -> None:
        """Pages were opened or have changed: there is something to send, to time, to fetch and to report."""
        for bell in (self.deliver, self.escalate, self.media, self.report):
            bell.ring()


@dataclass(frozen=True, slots=True)
class Desk:
    """The rows and the keys to them, the configuration in force, who can be reached, the pulse, bells and clock."""

    database: Database
    keys: KeyRing
    inbox: IntakeStore
    rulebook: LiveRulebook
    situation: Situation
    pulse: Pulse
    bells: Bells
    now: Clock
