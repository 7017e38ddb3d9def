"""What a channel is: the few plain values that a file in this room is made of.

A channel file holds its settings (a `Section`), a handler from `Request` to `Answer`, and one `ChannelType`
that names both. See `docs/contributing/adding-a-channel.md`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from bridge.config.values import Section
from bridge.model.doors import Inbox
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end within the bounds of `bridge.channels.http`.

    `target` is path and query exactly as they came, because some sources sign them; header names are compared
    without their case. None of it is shown: any part can hold a caller's number.
    """

    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Phi[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source is told. `outcome` is a word for log and metrics: what became of the request."""

    outcome: str
    status: int
    body: str = field(repr=False)
    content_type: str = "application/json"


def refusal(status: int, error: str, message: str, **more: str) -> Answer:
    """A refusal in JSON: `error` is for programs, `message` tells a person what to do.

    Nothing of the request is repeated in it.
    """
    return Answer(error, status, json.dumps({"error": error, "message": message, **more}))


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP address of a channel. Its path is `intake_path` or lies under it."""

    method: str
    path: str
    handle: Handler


@dataclass(frozen=True, slots=True)
class Channel:
    """A configured source of events, ready to be served."""

    id: ChannelId
    type: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every channel is given.

    `public_url` is the address at which the sources reach this bridge, without a slash at its end. `now` is
    the bridge's one clock, in UTC.
    """

    inbox: Inbox
    now: Callable[[], datetime]
    public_url: str


Settings = TypeVar("Settings", bound=Section)


@dataclass(frozen=True, slots=True)
class ChannelType(Generic[Settings]):
    """A kind of channel: its name in `nightbell.yaml`, its settings there, and how one is made of them."""

    name: str
    settings: type[Settings]
    build: Callable[[ChannelId, Settings, Surroundings], Channel]


def intake_path(channel: ChannelId) -> str:
    """The path at which an HTTP channel listens; its source is given the public URL and this."""
    return f"/intake/{channel}"
