"""The two doors between the floors: what an edge offers to the engine, and what the inbox offers to an edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi


@dataclass(frozen=True, slots=True)
class Receipt:
    """The inbox's word that an event is durable. The same event again gets the same id."""

    intake: IntakeId
    duplicate: bool


class Inbox(Protocol):
    """Where a channel puts what it verified. Both calls return only after the commit."""

    async def accept(self, event: IntakeEvent) -> Receipt:
        """Keep an event. Raises `StoreUnavailableError` if it could not be made durable."""

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        """Keep an authentic request that could not be parsed, and tell the operations room.

        `reason` must hold nothing of the request.
        """
