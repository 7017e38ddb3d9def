"""What the tests stand on: an inbox that remembers, a real server on loopback, senders that sign."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, parse_qsl, quote, urlencode
from xml.sax.saxutils import escape

import aiohttp
import jwt
from multidict import CIMultiDict, MultiDict
from nacl.signing import SigningKey
from plivo.utils import signature_v3 as plivo
from prometheus_client import CollectorRegistry
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator
from yarl import URL

from bridge.channels import open_channel
from bridge.channels.channel import Channel, Request, Surroundings
from bridge.channels.http import Health, build_application, serve
from bridge.config.source import parse_source
from bridge.config.validate import ChannelSection
from bridge.model.doors import Receipt
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi

PUBLIC_URL = "https://bridge.example"
AUTH_TOKEN = "12345678901234567890123456789012"
OLD_AUTH_TOKEN = "old-token-that-still-signs"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
NEXT_WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"the secret that comes after it..").decode()
KANNEL_SECRET = "kannel-secret"
TELNYX_KEY = SigningKey(bytes(range(32)))
TELNYX_NEXT_KEY = SigningKey(bytes(32))
TELNYX_PUBLIC_KEY = base64.b64encode(bytes(TELNYX_KEY.verify_key)).decode()
VONAGE_SECRET = "signaturesecretsignaturesecret32"
NEXT_VONAGE_SECRET = "the signature secret that comes after it"
WCTP_CODE = "wctp-code"
AMI_SECRET = "amisecret"
SECRETS = {
    "TEST_AMI_SECRET": AMI_SECRET,
    "TEST_WCTP_CODE": WCTP_CODE,
    "TEST_NEXT_WCTP_CODE": "wctp-code-that-comes-after-it",
    "TEST_LAPWING_CODE": "f09cf4c0a547b183",
    "TEST_VONAGE_SECRET": VONAGE_SECRET,
    "TEST_NEXT_VONAGE_SECRET": NEXT_VONAGE_SECRET,
    "TEST_KANNEL_SECRET": KANNEL_SECRET,
    "TEST_NEXT_KANNEL_SECRET": "kannel-secret-that-comes-after-it",
    "TEST_AUTH_TOKEN": AUTH_TOKEN,
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
            return Receipt(IntakeId(f"in-{number}"), duplicate=True)
        self.events.append(event)
        return Receipt(IntakeId(f"in-{len(known)}"), duplicate=False)

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        self._reach()
        self.unreadable.append((channel, raw, reason))
        return Receipt(IntakeId(f"raw-{len(self.unreadable)}"), duplicate=False)

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailableError("the database is away")


def opened(
    yaml: str, inbox: RememberingInbox, *, name: str = "door", public_url: str = PUBLIC_URL, **around: Any
) -> Channel:
    """A channel as this section of nightbell.yaml describes it."""
    source = parse_source("nightbell.yaml", yaml)
    section = ChannelSection(source.value["type"], source, (), Path())
    surroundings = Surroundings(inbox, utc_now, public_url, **around)
    with patch.dict(os.environ, SECRETS):
        return open_channel(ChannelId(name), section, surroundings)


def utc_now() -> datetime:
    return datetime.now(UTC)


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
    settings: dict[str, Any] = {"health": healthy, "registry": registry, **(app or {})}
    async with (
        serve(build_application(channels, **settings), "127.0.0.1", 0, **bounds) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Server(port, session, registry)


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


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
async def listening(yaml: str, inbox: RememberingInbox) -> AsyncIterator[int]:
    """Let a channel with a listener of its own listen; yields the port, which stands in its section as PORT."""
    port = free_port()
    channel = opened(yaml.replace("PORT", str(port)), inbox)
    assert channel.serve is not None
    serving = asyncio.ensure_future(channel.serve())
    try:
        await reachable(port)
        yield port
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def twilio_headers(
    form: Mapping[str, Any] | Sequence[tuple[str, str]],
    *,
    url: str = f"{PUBLIC_URL}/intake/door",
    token: str = AUTH_TOKEN,
) -> dict[str, str]:
    """The headers with which Twilio's own SDK would have signed a form."""
    signature = RequestValidator(token).compute_signature(url, form)
    return {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}


def plivo_headers(
    form: Mapping[str, Any],
    *,
    url: str = f"{PUBLIC_URL}/intake/door",
    token: str = AUTH_TOKEN,
    header: str = "X-Plivo-Signature-V3",
) -> dict[str, str]:
    """The headers with which Plivo's own SDK would have signed a form."""
    signed = plivo.construct_post_url(url, dict(form)).decode()
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Plivo-Signature-V3-Nonce": "12345678",
        header: plivo.get_signature_v3(token, signed, b"12345678").decode(),
    }


def telnyx_headers(body: str, *, at: datetime | None = None, key: SigningKey = TELNYX_KEY) -> dict[str, str]:
    """The headers with which Telnyx signs a body."""
    timestamp = str(int((at or utc_now()).timestamp()))
    signature = key.sign(f"{timestamp}|{body}".encode()).signature
    return {
        "Content-Type": "application/json",
        "telnyx-timestamp": timestamp,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }


def vonage_headers(
    body: str, *, at: datetime | None = None, secret: str = VONAGE_SECRET, **claims: Any
) -> dict[str, str]:
    """The headers with which Vonage signs a body in its Messages API."""
    made: dict[str, Any] = {
        "iat": int((at or utc_now()).timestamp()),
        "jti": "x",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body.encode()).hexdigest(),
        **claims,
    }
    token = jwt.encode(made, secret, algorithm="HS256")
    return {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}


def webhook_headers(
    body: str, *, key: str = "msg_1", at: datetime | None = None, secret: str = WEBHOOK_SECRET
) -> dict[str, str]:
    """The headers with which a Standard Webhooks library signs a body."""
    at = at or datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(key, at, body),
    }


# What the tests that walk every channel need to know of each. In an event, everything that a person wrote is a canary.
CANARY = "Kanarienvogel"


@dataclass(frozen=True)
class Wire:
    """A channel over HTTP: its section, and how its source makes an authentic request of what it has to say.

    `event` is something that it says, `nonsense` something that is no event. `status` reads an answer's HTTP
    status, or what the source's own protocol has in its place.
    """

    section: str
    signed: Callable[[str], Request]
    event: str
    nonsense: str = "no=event"
    status: Callable[[Reply], int] = lambda reply: reply.status


def _twilio_request(body: str) -> Request:
    # Written anew, so that it is UTF-8 throughout: the SDKs sign nothing else.
    fields = parse_qsl(body, keep_blank_values=True)
    headers = twilio_headers(MultiDict(fields))
    return Request("/intake/door", CIMultiDict(headers), Phi(urlencode(fields).encode()))


def _plivo_request(body: str) -> Request:
    fields = parse_qsl(body, keep_blank_values=True)
    form = urlencode(fields)
    headers = plivo_headers(parse_qs(form, keep_blank_values=True))
    return Request("/intake/door", CIMultiDict(headers), Phi(form.encode()))


def _telnyx_request(body: str) -> Request:
    return Request("/intake/door", CIMultiDict(telnyx_headers(body)), Phi(body.encode()))


def _vonage_request(body: str) -> Request:
    return Request("/intake/door", CIMultiDict(vonage_headers(body)), Phi(body.encode()))


def _webhook_request(body: str) -> Request:
    return Request("/intake/door", CIMultiDict(webhook_headers(body)), Phi(body.encode()))


def _kannel_request(query: str) -> Request:
    return Request(
        f"/intake/door?secret={KANNEL_SECRET}&{quote(query, safe='=&+%')}", CIMultiDict(), Phi(b"")
    )


def _wctp_request(body: str) -> Request:
    """A document with the security code put in; any other text is the payload of one that lacks its ids."""
    if not body.startswith("<?xml"):
        legal = re.sub("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", body)
        said = f"<wctp-Alphanumeric>{escape(legal)}</wctp-Alphanumeric>"
        body = f"{WCTP_HEAD}<wctp-Payload>{said}</wctp-Payload>{WCTP_TAIL}"
    body = body.replace('senderID="desk"', f'senderID="desk" securityCode="{WCTP_CODE}"')
    return Request("/intake/door", CIMultiDict(), Phi(body.encode()))


def wctp_status(reply: Reply) -> int:
    """What WCTP's own code is in HTTP."""
    code = re.search(r'errorCode="(\d)(\d\d)"', reply.text)
    if code is None:
        return reply.status
    return {"3": 400, "4": 403, "6": 503}[code[1]]


WCTP_HEAD = (
    '<?xml version="1.0"?>\n<!DOCTYPE wctp-Operation SYSTEM "http://dtd.wctp.org/wctp-dtd-v1r3.dtd">\n'
    '<wctp-Operation wctpVersion="wctp-dtd-v1r3"><wctp-SubmitRequest>'
    '<wctp-SubmitHeader><wctp-Originator senderID="desk"/></wctp-SubmitHeader>'
)
WCTP_TAIL = "</wctp-SubmitRequest></wctp-Operation>"

WIRES = {
    "kannel": Wire(
        KANNEL,
        _kannel_request,
        urlencode({"id": f"id-{CANARY}", "from": CANARY, "to": CANARY, "text": CANARY, CANARY: CANARY}),
    ),
    "plivo": Wire(
        PLIVO,
        _plivo_request,
        urlencode(
            {
                "MessageUUID": CANARY,
                "From": CANARY,
                "To": CANARY,
                "Text": CANARY,
                "MediaCount": CANARY,
                CANARY: CANARY,
            }
        ),
    ),
    "telnyx": Wire(
        TELNYX,
        _telnyx_request,
        json.dumps(
            {
                "data": {
                    "id": f"id-{CANARY}",
                    "event_type": "message.received",
                    "payload": {
                        "from": {"phone_number": CANARY},
                        "to": [{"phone_number": CANARY}],
                        "text": CANARY,
                        "media": [{"url": CANARY}],
                        CANARY: CANARY,
                    },
                }
            }
        ),
    ),
    "twilio": Wire(
        TWILIO,
        _twilio_request,
        urlencode(
            {
                "MessageSid": f"SM{CANARY}",
                "From": CANARY,
                "To": CANARY,
                "Body": CANARY,
                "ProfileName": CANARY,
                "NumMedia": CANARY,
                CANARY: CANARY,
            }
        ),
    ),
    "vonage": Wire(
        VONAGE,
        _vonage_request,
        json.dumps(
            {
                "message_uuid": f"id-{CANARY}",
                "message_type": CANARY,
                "from": CANARY,
                "to": CANARY,
                "text": CANARY,
                "profile": {"name": CANARY},
                CANARY: CANARY,
            }
        ),
    ),
    "wctp": Wire(
        WCTP,
        _wctp_request,
        f'{WCTP_HEAD}<wctp-MessageControl messageID="id-{CANARY}" transactionID="{CANARY}" '
        f'sendResponsesToID="{CANARY}"/><wctp-Recipient recipientID="{CANARY}"/>'
        f"<wctp-Payload><wctp-MCR><wctp-MessageText>{CANARY}</wctp-MessageText>"
        f"<wctp-Choice>{CANARY}</wctp-Choice></wctp-MCR></wctp-Payload>{WCTP_TAIL}",
        status=wctp_status,
    ),
    "webhook": Wire(
        WEBHOOK,
        _webhook_request,
        json.dumps(
            {
                "kind": "page",
                "body": CANARY,
                "caller": {"number": CANARY, "name": CANARY},
                "called": CANARY,
                "recipient": CANARY,
                "queue": CANARY,
                "attributes": {"clinic": CANARY},
                f"unlisted {CANARY}": {CANARY: CANARY},
            }
        ),
    ),
}
# Channels with a listener or a connection of their own: they have no requests to walk over.
LISTENERS = {
    "asterisk": ASTERISK.replace("PORT", "5038"),
    "smtp": SMTP.replace("PORT", "25"),
    "snpp": SNPP.replace("PORT", "444"),
}
SECTIONS = {**{name: each.section for name, each in WIRES.items()}, **LISTENERS}
