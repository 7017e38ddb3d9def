"""What the tests stand on: an inbox that remembers, channels as they are configured, a real server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from bridge.channels import open_channel
from bridge.channels.channel import Channel, Request, Surroundings
from bridge.channels.http import Health, build_application, serve
from bridge.channels.meters import Meters
from bridge.config.source import parse_source
from bridge.config.validate import ChannelSection
from bridge.model.doors import Receipt
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from testbed.process import free_port
from tests.channels.signers import (
    AMI_SECRET,
    AUTH_TOKEN,
    KANNEL_SECRET,
    NEXT_VONAGE_SECRET,
    NEXT_WEBHOOK_SECRET,
    OLD_AUTH_TOKEN,
    PUBLIC_URL,
    TELNYX_API_KEY,
    TELNYX_NEXT_KEY,
    TELNYX_PUBLIC_KEY,
    TELNYX_TEST_KEY,
    VONAGE_SECRET,
    WCTP_CODE,
    WEBHOOK_SECRET,
    utc_now,
)

SECRETS = {
    "TEST_AMI_SECRET": AMI_SECRET,
    "TEST_WCTP_CODE": WCTP_CODE,
    "TEST_NEXT_WCTP_CODE": "wctp-code-that-comes-after-it",
    "TEST_LAPWING_CODE": "f09cf4c0a547b183",
    "TEST_TELNYX_API_KEY": TELNYX_API_KEY,
    "TEST_VONAGE_SECRET": VONAGE_SECRET,
    "TEST_NEXT_VONAGE_SECRET": NEXT_VONAGE_SECRET,
    "TEST_KANNEL_SECRET": KANNEL_SECRET,
    "TEST_NEXT_KANNEL_SECRET": "kannel-secret-that-comes-after-it",
    "TEST_AUTH_TOKEN": AUTH_TOKEN,
    "TEST_TELNYX_KEY": base64.b64encode(bytes(TELNYX_TEST_KEY)).decode(),
    "TEST_OLD_AUTH_TOKEN": OLD_AUTH_TOKEN,
    "TEST_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "TEST_NEXT_WEBHOOK_SECRET": NEXT_WEBHOOK_SECRET,
}


TWILIO = """
type: twilio
auth_token: [env:TEST_AUTH_TOKEN, env:TEST_OLD_AUTH_TOKEN]
region: US
"""


ASTERISK = """
type: asterisk
host: 127.0.0.1
port: PORT
username: bridge
secret: env:TEST_AMI_SECRET
region: US
"""


KANNEL = """
type: kannel
secrets: [env:TEST_KANNEL_SECRET, env:TEST_NEXT_KANNEL_SECRET]
region: US
"""


PLIVO = """
type: plivo
auth_token: [env:TEST_AUTH_TOKEN, env:TEST_OLD_AUTH_TOKEN]
"""


SMTP = """
type: smtp
port: PORT
peers: 127.0.0.1
domains: [pager.example, pager.test]
require_tls: false
"""


SNPP = """
type: snpp
port: PORT
peers: [127.0.0.1, "::1"]
"""


TELNYX = f"""
type: telnyx
public_keys: [{TELNYX_PUBLIC_KEY}, {base64.b64encode(bytes(TELNYX_NEXT_KEY.verify_key)).decode()}]
test_key: env:TEST_TELNYX_KEY
"""


VONAGE = """
type: vonage
secrets: [env:TEST_VONAGE_SECRET, env:TEST_NEXT_VONAGE_SECRET]
sms_api_signature: sha256
"""


WCTP = """
type: wctp
senders:
  desk: [env:TEST_WCTP_CODE, env:TEST_NEXT_WCTP_CODE]
  silver-lapwing: env:TEST_LAPWING_CODE
"""


WEBHOOK = """
type: webhook
secrets: [env:TEST_WEBHOOK_SECRET, env:TEST_NEXT_WEBHOOK_SECRET]
region: US
"""


@dataclass
class RememberingInbox:
    """An inbox in memory; `away` makes it fail as a database that is gone does."""

    events: list[IntakeEvent] = field(default_factory=list)
    unreadable: list[tuple[ChannelId, Phi[bytes], str]] = field(default_factory=list)
    away: bool = False

    async def accept(self, event: IntakeEvent) -> Receipt:
        self._reach()
        known = [(each.channel, each.key) for each in self.events]
        if (event.channel, event.key) in known:
            number = known.index((event.channel, event.key))
            return Receipt(IntakeId(f"{number:032x}"), duplicate=True, kind=self.events[number].kind)
        self.events.append(event)
        return Receipt(IntakeId(f"{len(known):032x}"), duplicate=False, kind=event.kind)

    async def kind_of(self, channel: ChannelId, key: Phi[str]) -> EventKind | None:
        self._reach()
        kinds = [each.kind for each in self.events if (each.channel, each.key) == (channel, key)]
        return kinds[0] if kinds else None

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        self._reach()
        self.unreadable.append((channel, raw, reason))
        return Receipt(IntakeId(f"raw-{len(self.unreadable)}"), duplicate=False)

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailableError("the database is away")


def opened(
    yaml: str,
    inbox: RememberingInbox,
    *,
    name: str = "door",
    public_url: str = PUBLIC_URL,
    now: Callable[[], datetime] = utc_now,
    **around: Any,
) -> Channel:
    """A channel as this section of nightbell.yaml describes it."""
    source = parse_source("nightbell.yaml", yaml)
    section = ChannelSection(source.value["type"], source, (), Path())
    surroundings = Surroundings(inbox, now, public_url, **around)
    with patch.dict(os.environ, SECRETS):
        return open_channel(ChannelId(name), section, surroundings)


async def healthy() -> Health:
    return Health(ready=True, parts={"database": "ok"})


@dataclass(frozen=True)
class Reply:
    """What a source got back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Server:
    """A running server, and a session to reach it. Paths are sent exactly as they are written."""

    port: int
    session: aiohttp.ClientSession
    registry: CollectorRegistry

    async def request(self, method: str, path: str, **arguments: Any) -> Reply:
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, **arguments) as response:
            return Reply(response.status, response.headers, await response.text())

    async def send(self, request: Request) -> Reply:
        """Send a request as a source would: by GET if it has no body."""
        method = "POST" if request.body else "GET"
        return await self.request(
            method, request.target, data=request.body.reveal() or None, headers=request.headers
        )

    async def post(
        self, body: bytes | str, headers: Mapping[str, str] | None = None, path: str = "/intake/door"
    ) -> Reply:
        return await self.request("POST", path, data=body, headers=headers)


@asynccontextmanager
async def running(
    *channels: Channel, app: Mapping[str, Any] | None = None, **bounds: Any
) -> AsyncIterator[Server]:
    """Serve these channels on loopback. `app` and `bounds` go to `build_application` and `serve`."""
    registry = CollectorRegistry()
    settings: dict[str, Any] = {"health": healthy, "meters": Meters.of(registry), **(app or {})}
    async with (
        serve(build_application(channels, **settings), "127.0.0.1", 0, **bounds) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Server(port, session, registry)


@asynccontextmanager
async def far_end(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    method: str = "*",
    path: str = "/{path:.*}",
    port: int = 0,
) -> AsyncIterator[str]:
    """A provider's API on loopback; yields its address."""
    application = web.Application()
    application.router.add_route(method, path, handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def reachable(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.005)
            else:
                writer.close()
                return


@asynccontextmanager
async def listening(yaml: str, inbox: RememberingInbox, **around: Any) -> AsyncIterator[int]:
    """Let a channel with a listener of its own listen; yields the port, which stands in its section as PORT."""
    port = free_port()
    channel = opened(yaml.replace("PORT", str(port)), inbox, **around)
    assert channel.serve is not None
    serving = asyncio.ensure_future(channel.serve())
    try:
        await reachable(port)
        yield port
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
