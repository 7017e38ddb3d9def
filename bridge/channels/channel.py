"""What a channel is: the few plain values that a file in this room is made of.

A channel file holds its settings (a `Section`), a handler from `Request` to `Answer` or a listener of its own, and
one `ChannelType` that names them. See `docs/contributing/adding-a-channel.md`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import structlog

from bridge.config.values import Section
from bridge.model.doors import Inbox, MediaSource, Texter
from bridge.model.errors import NightbellError, ReportError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.model.report import Reporter, Standing, Waiting

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end within the bounds of `bridge.channels.http`.

    `target` is path and query exactly as they came, because some sources sign them; header names are compared
    without their case; `peer` is the address that it came from, which is a proxy's where `listen.proxies` does not
    name that. None of it is shown: any part can hold a caller's number.
    """

    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Phi[bytes]
    peer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source is told. `outcome` is a word for log and metrics: what became of the request.

    `refused` marks a refusal that comes with a status of 200, as some protocols have it.
    """

    outcome: str
    status: int
    body: str = field(repr=False)
    content_type: str = "application/json"
    refused: bool = False


def refusal(status: int, error: str, message: str, **more: str) -> Answer:
    """A refusal in JSON: `error` is for programs, `message` tells a person what to do.

    Nothing of the request is repeated in it.
    """
    return Answer(error, status, json.dumps({"error": error, "message": message, **more}))


# A channel's raw traffic: its name, `<` or `>`, and the bytes.
Tap = Callable[[ChannelId, str, Phi[bytes]], None]
Handler = Callable[[Request], Awaitable[Answer]]
# What a source says has happened between two moments, under the same keys as when it told. Raises `SourceError`.
Recount = Callable[[datetime, datetime], Awaitable[Sequence[IntakeEvent]]]


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP address of a channel. Its path is `intake_path` or lies under it."""

    method: str
    path: str
    handle: Handler


@dataclass(frozen=True, slots=True)
class Channel:
    """A configured source of events, ready to be served.

    `serve` is for a channel that is no HTTP: it listens, or connects, until it is cancelled. It raises `OSError` if
    its address can't be listened on, which is told and tried again. `media` is for a channel whose
    events name recordings or pictures that are to be fetched. `recount` is for a source that can be
    asked: what the inbox lacks of its answer is taken (see `bridge.engine.reconcile`). `report` is for a source
    that can be told what becomes of its events (see `bridge.engine.reports`). `text` is for one that can write to
    whoever wrote (see `bridge.engine.texting`).
    """

    id: ChannelId
    type: str
    routes: tuple[Route, ...] = ()
    serve: Callable[[], Coroutine[None, None, None]] | None = None
    media: MediaSource | None = None
    recount: Recount | None = None
    report: Reporter | None = None
    text: Texter | None = None


async def _only_logged(channel: ChannelId, trouble: str | None) -> None:
    log.log(logging.WARNING if trouble else logging.INFO, "channel_state", channel=channel, trouble=trouble)


async def _silent(_event: IntakeEvent, _intake: IntakeId) -> str | None:
    return None


async def _unsaid(_event: IntakeEvent, _intake: IntakeId) -> None:
    return None


async def _unknown(_channel: ChannelId, _intake: IntakeId) -> Standing | None:
    return None


async def _no_drop(_channel: ChannelId, _intake: IntakeId) -> None:
    return None


async def _nothing_waits(_channel: ChannelId, _poller: str, _most: int) -> Sequence[Waiting]:
    return ()


async def _not_kept(_: ChannelId, __: str, ___: Mapping[int, ReportError | None]) -> None:
    return None


async def _nothing_noted(_: ChannelId) -> Mapping[str, int]:
    return {}


async def _forget(_: ChannelId, __: Mapping[str, int]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every channel is given.

    `public_url` is the address at which the sources reach this bridge, without a slash at its end. `now` is
    the bridge's one clock, in UTC. `tell` is for a channel that itself listens or connects: it is told when
    that begins or ceases to be in trouble, in words without PHI, and None when it is well. `count` is for one that
    is no HTTP: it is told a word for what became of each thing that came, and so is `tap`, of what came (`<`) and was
    said (`>`), for an operator who asked to see it. `recall` and `remember` are for figures that a channel must have
    after a restart, and raise `StoreUnavailableError`. `standing` says how far an event of the channel has come and
    what was answered to it, None if there is no such event; `drop` ends that, for a source that wants to hear no more
    of one. `waiting` is what a source that fetches what it wants to hear is given, at most so many, and `received`
    its word for each number: taken, or why not. `reply` gives what the sender of a text that was
    accepted is to be told; a channel that asks it says so by `ChannelType.replies`. `text_back` has it sent by
    `Channel.text` instead, where a source passes on nothing that it is answered.
    """

    inbox: Inbox
    now: Callable[[], datetime]
    public_url: str
    standing: Callable[[ChannelId, IntakeId], Awaitable[Standing | None]] = _unknown
    drop: Callable[[ChannelId, IntakeId], Awaitable[None]] = _no_drop
    waiting: Callable[[ChannelId, str, int], Awaitable[Sequence[Waiting]]] = _nothing_waits
    received: Callable[[ChannelId, str, Mapping[int, ReportError | None]], Awaitable[None]] = _not_kept
    reply: Callable[[IntakeEvent, IntakeId], Awaitable[str | None]] = _silent
    text_back: Callable[[IntakeEvent, IntakeId], Awaitable[None]] = _unsaid
    tell: Callable[[ChannelId, str | None], Awaitable[None]] = _only_logged
    count: Callable[[ChannelId, str], None] = lambda _, __: None
    tap: Tap = lambda _, __, ___: None
    recall: Callable[[ChannelId], Awaitable[Mapping[str, int]]] = _nothing_noted
    remember: Callable[[ChannelId, Mapping[str, int]], Awaitable[None]] = _forget


class NoSampleError(NightbellError):
    """A test event of this channel can't be made here. The message says what is lacking."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a test event is to say, and where it goes: `url` is the channel's address as its source knows it.

    `kind` is one of the channel's `ChannelType.kinds`; None is the first of them.
    """

    url: str
    key: str
    at: datetime
    text: str
    recipient: str
    kind: EventKind | None = None
    caller: str = "+12025550100"  # of the numbers that are nobody's
    caller_name: str = "Nightbell"

    def request(self, body: str, headers: Mapping[str, str], query: str = "") -> Request:
        """A request to that address."""
        return Request(urlsplit(self.url).path + query, headers, Phi(body.encode()))


Settings = TypeVar("Settings", bound=Section)


@dataclass(frozen=True, slots=True)
class ChannelType(Generic[Settings]):
    """A kind of channel: its name in `nightbell.yaml`, its settings there, and how one is made of them.

    `kinds` are those of the events that `nightbell send` can make, the usual one first. `sample` makes one as its
    source would, authentic and all, and raises `NoSampleError`; None for what is no HTTP. `replies` says that a
    sender of a text can be told something; if it is a word, only with the setting of that name.
    """

    name: str
    settings: type[Settings]
    build: Callable[[ChannelId, Settings, Surroundings], Channel]
    kinds: tuple[EventKind, ...]
    sample: Callable[[Settings, Probe], Request] | None = None
    replies: bool | str = False


def intake_path(channel: ChannelId) -> str:
    """The path at which an HTTP channel listens; its source is given the public URL and this."""
    return f"/intake/{channel}"
