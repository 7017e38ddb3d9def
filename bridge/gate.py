"""How the doors are, and the whole bridge: what channels, health, metrics and the operations room are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry

from bridge.channels.accepting import Accepting
from bridge.channels.http import Health, build_metrics_application, serve
from bridge.engine import operations
from bridge.engine.capture import Captures
from bridge.engine.pulse import Pulse
from bridge.engine.rulebook import Clock
from bridge.house import House
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import ChannelId
from bridge.store import attachments, outbox

METRICS = ChannelId("(metrics)")  # the name of the metrics' door; no channel can have it
TRANSCRIPTION = ChannelId("(transcription)")  # likewise, of what turns recordings into text
DOORS = ChannelId("(doors)")  # of all of them
METRICS_CONNECTIONS = 16
LOOK_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """How the doors are: what channels, health and the operations room are told of them, and who listens in."""

    house: House
    pulse: Pulse
    now: Clock
    wake: Callable[[], None]
    captures: Captures
    accepting: Accepting
    troubles: dict[ChannelId, str] = field(default_factory=dict)
    closed: set[ChannelId] = field(default_factory=set)

    async def shut(self, channel: ChannelId, trouble: str) -> None:
        """A door can't be opened: the bridge is not ready to take everything."""
        self.closed.add(channel)
        await self.tell(channel, trouble)

    async def tell(self, channel: ChannelId, trouble: str | None) -> None:
        """A channel listens or is connected; or it is in trouble, which operations hear once, and of its end."""
        self.pulse.beat(f"channel {channel}", ConnectionError() if trouble else None)
        if trouble is None:
            self.closed.discard(channel)
        if trouble == self.troubles.get(channel):
            return
        log.log(
            logging.WARNING if trouble else logging.INFO, "channel_state", channel=channel, trouble=trouble
        )
        text = f"⚠️ Channel {channel}: {trouble}" if trouble else f"Channel {channel} is well again"
        with suppress(StoreUnavailableError):  # which is told by itself
            async with self.house.database.write() as connection:
                await operations.tell(connection, self.house.keys, text, self.now())
            self.wake()
        if trouble is None:
            del self.troubles[channel]
        else:
            self.troubles[channel] = trouble

    async def look(self) -> float:
        """See whether connections can be taken at all. Returns when to look again."""
        if self.accepting.failed_lately():
            await self.shut(DOORS, "connections have to wait: there is no open file left (see LimitNOFILE)")
        elif DOORS in self.troubles:
            await self.tell(DOORS, None)
        return LOOK_SECONDS


async def show_metrics(registry: CollectorRegistry, host: str, port: int, gate: Gate) -> None:
    metrics = build_metrics_application(registry)
    async with serve(metrics, host, port, max_connections=METRICS_CONNECTIONS):
        await gate.tell(METRICS, None)
        await asyncio.Event().wait()


async def health_of(house: House, pulse: Pulse, gate: Gate) -> Health:
    parts = pulse.parts()
    try:
        async with house.database.read() as connection:
            parts["outbox"] = f"{await outbox.depth(connection)} waiting"
            parts["attachments"] = f"{await attachments.depth(connection)} waiting"
    except StoreUnavailableError:
        return Health(ready=False, parts={**parts, "database": "away"})
    if parts.get("watch") == StoreUnavailableError.__name__:
        return Health(ready=False, parts={**parts, "database": "takes no writes"})
    parts |= {f"channel {channel}": trouble for channel, trouble in gate.troubles.items()}
    return Health(ready=not gate.closed, parts=parts)
