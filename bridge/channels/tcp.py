"""What channels with a listener of their own share: who may connect, how many, and for how long."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Annotated

import structlog
from pydantic import Field, IPvAnyNetwork

from bridge.channels.channel import Surroundings
from bridge.channels.crowd import Crowd, source_of
from bridge.channels.rate import Rate
from bridge.channels.settings import is_peer
from bridge.config.values import NumberSetting, Section, Setting, one_or_more
from bridge.model import in_hand
from bridge.model.ids import ChannelId

MAX_LINE = 8 * 1024  # bytes
MAX_CONNECTIONS = 64
MAX_OF_ONE = 16  # connections from one address
SESSION_SECONDS = 300.0  # for all of a connection

WITHHELD = "This is not understood, and not repeated"

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Line:
    """A connection of lines. `since` is the moment from which it is waited for; None while it waits."""

    source: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    full: bytes
    since: float | None = 0.0

    async def hear(self, seconds: float) -> bytes:
        """The next line, to its end. Raises `TimeoutError`, `LimitOverrunError` and `IncompleteReadError`."""
        self.since = monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await self.reader.readuntil(b"\n")
        finally:
            self.since = None

    def make_room(self) -> None:
        """Leave for another's sake."""
        self.writer.write(self.full)
        self.writer.close()


Talk = Callable[[Line], Awaitable[None]]


class ListenerSettings(Section):
    """Where a channel listens, and to whom."""

    host: Setting = Field(
        default="127.0.0.1", description="The address to listen on; in a container, 0.0.0.0."
    )
    port: NumberSetting = Field(description="The port to listen on.")
    peers: Annotated[tuple[IPvAnyNetwork, ...], one_or_more, Field(min_length=1)] = Field(
        description="The networks that may connect, such as 10.1.2.3 or 10.1.2.0/24."
    )
    per_minute: NumberSetting = Field(
        default=600,
        ge=1,
        description="How many pages may come from one address in a minute; those above are told to come again.",
    )


async def serve_lines(
    channel: ChannelId,
    settings: ListenerSettings,
    around: Surroundings,
    talk: Talk,
    *,
    refused: bytes,
    full: bytes,
    late: bytes,
    max_connections: int = MAX_CONNECTIONS,
    max_of_one: int = MAX_OF_ONE,
    session_seconds: float = SESSION_SECONDS,
) -> None:
    """Listen until cancelled, and talk to each peer that connects.

    `refused`, `full` and `late` are what others, those over the bounds, and those whose time is up are told. Raises
    `OSError` if the address can't be listened on.
    """
    crowd = Crowd(max_connections, max_of_one)
    rate = Rate(settings.per_minute)

    def turn_away(writer: asyncio.StreamWriter, said: bytes, outcome: str) -> None:
        around.count(channel, outcome)
        _turn_away(channel, writer, said, outcome)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        line = Line(source_of(peer), reader, writer, full, since=monotonic())
        if not is_peer(peer, settings.peers):
            turn_away(writer, refused, "unknown_peer")
        elif rate.wait(line.source) or not crowd.admit(line):
            turn_away(writer, full, "too_many_connections")
        else:
            task = talks.create_task(_bounded(channel, talk, line, session_seconds, late))
            task.add_done_callback(lambda _: crowd.leave(line))

    server = await asyncio.start_server(
        connected, settings.host, settings.port, limit=MAX_LINE, start_serving=False
    )
    async with server, asyncio.TaskGroup() as talks:
        await server.start_serving()
        log.info("channel_listens", channel=channel, port=settings.port)
        await around.tell(channel, None)
        await server.serve_forever()


def may_be_said(channel: ChannelId, around: Surroundings, reply: str) -> str:
    """A reply as it may be said: a refusal of words that are neither ours nor the configuration's is withheld.

    Such a refusal could only repeat what was sent. SNPP and SMTP refuse with a code of 4 or 5 and two more digits.
    """
    if not reply.startswith(("4", "5")) or in_hand.is_public(reply):
        return reply
    around.count(channel, "answer_withheld")
    return f"{reply[:3]} {WITHHELD}"


def _turn_away(channel: ChannelId, writer: asyncio.StreamWriter, said: bytes, outcome: str) -> None:
    log.info("connection_refused", channel=channel, outcome=outcome)
    writer.write(said)
    writer.close()


async def _bounded(channel: ChannelId, talk: Talk, line: Line, seconds: float, late: bytes) -> None:
    """Talk within the time there is. A failure is logged by its place alone: its text may hold content."""
    writer = line.writer
    try:
        async with asyncio.timeout(seconds):
            with in_hand.hold():  # what is taken, and what is opened to answer
                await talk(line)
            writer.close()
            await writer.wait_closed()
    except TimeoutError:
        writer.write(late)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the other side is gone
    except Exception as error:  # noqa: BLE001 - one connection's failure is not the next one's
        at = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        log.error(  # noqa: TRY400 - without the error's own words
            "connection_failed", channel=channel, error=type(error).__name__, at=at
        )
    finally:
        with suppress(Exception):
            writer.transport.abort()
