"""Records a channel's raw traffic while somebody has asked for it, and destroys the record a day later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from bridge.engine import operations
from bridge.engine.rulebook import Clock
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.policy.rendering import duration
from bridge.store import captures, holds
from bridge.store.captures import Capture, Piece
from bridge.store.database import Database
from bridge.store.keys import KeyRing

KEPT = timedelta(days=1)  # after its end
FLUSH_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    """A capture that goes on. `left` is counted down at once, so that memory is bounded by it, too."""

    capture: Capture
    left: int
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Captures:
    """All channels'. What is in memory is lost with the process: it is a tool, not the inbox."""

    database: Database
    keys: KeyRing
    now: Clock
    wake: Callable[[], None]
    open: dict[ChannelId, _Open] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def note(self, channel: ChannelId, way: str, raw: Phi[bytes]) -> None:
        """Something came or was said; it is kept if somebody asked for it."""
        going = self.open.get(channel)
        if going is None or going.left <= 0 or self.now() >= going.capture.until:
            return
        part = raw.reveal()[: going.left]
        going.left -= len(part)
        going.pieces.append(Piece(self.now(), way, Phi(bytes(part))))

    async def step(self) -> float | None:
        """Keep what was noted; begin and end what is asked for."""
        for going in self.open.values():
            await self._flush(going)
        now = self.now()
        async with self.database.read() as connection:
            known = await captures.known(connection)
            in_force = await holds.in_force(connection)
        over = {each.key: each for each in known if now >= each.until + KEPT}
        held = {key for key, each in over.items() if captures.held(each, in_force)}
        if held - self.held:
            async with self.database.write() as connection:
                await captures.keep_held(connection, self.keys, in_force)
        self.held = held
        if due := [each for key, each in over.items() if key not in held]:
            async with self.database.write() as connection:
                await captures.destroy(connection, self.keys, due, now)
        wanted = {each.channel: each for each in known if now < each.until}
        for channel, capture in wanted.items():
            present = self.open.get(channel)
            if present is None or present.capture.key != capture.key:
                await self._begin(capture)
        for channel in [each for each in self.open if each not in wanted]:
            del self.open[channel]
        return FLUSH_SECONDS if self.open else None

    async def _begin(self, capture: Capture) -> None:
        length = duration(capture.until - capture.since)
        text = f"⚠️ {capture.by} has the raw traffic of {capture.channel} recorded, for {length}"
        async with self.database.write() as connection:
            await operations.tell(connection, self.keys, text, self.now())
        self.wake()
        log.warning("capture_begins", channel=capture.channel)
        self.open[capture.channel] = _Open(capture, capture.bytes_left)

    async def _flush(self, going: _Open) -> None:
        pieces, going.pieces = going.pieces, []
        if not pieces:
            return
        async with self.database.write() as connection:
            known = {each.key for each in await captures.known(connection)}
            if going.capture.key in known:  # somebody may have had it destroyed
                key = await self.keys.data_key(connection, going.capture.key)
                await captures.put(connection, key, pieces, going.left)
