"""A provider's API at the wire, and what its own SDK would send there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bridge.model.doors import Texter
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from tests.channels.wire import far_end


@dataclass(frozen=True)
class Sent:
    """What came to the API."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class Api:
    """Takes every text; `says` is what it answers to the next ones instead, 0 for hanging up."""

    says: list[int] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.sent.append(
            Sent(request.method, request.path, request.headers, json.loads(await request.read()))
        )
        status = self.says.pop(0) if self.says else 202
        if not status and request.transport is not None:
            request.transport.abort()
        return web.json_response({"message_uuid": "1"}, status=status or 202)


def serving(api: Api) -> AbstractAsyncContextManager[str]:
    """The API on loopback, and its address."""
    return far_end(api.take)


def a_text(caller: str | None = "+12025550100", called: str | None = "+12025550199") -> IntakeEvent:
    return IntakeEvent(
        ChannelId("door"),
        Phi("1"),
        EventKind.TEXT,
        Phi("hi"),
        caller=protect_optional(caller),
        called=protect_optional(called),
    )


async def text(texter: Texter | None, event: IntakeEvent | None = None, once: str = "5" * 32) -> bool:
    assert texter is not None
    return await texter.send(event or a_text(), "We have called a doctor.", once)
