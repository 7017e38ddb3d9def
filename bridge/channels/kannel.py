"""Texts from Kannel: what smsbox requests for a message, by GET, by POST, or as XML.

https://www.kannel.org/download/1.4.5/userguide-1.4.5/userguide.html (sms-service: get-url, post-url, post-xml).
How to set it up: docs/channels/kannel.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from pydantic import Field

from bridge.channels.channel import (
    Answer,
    Channel,
    ChannelType,
    Handler,
    Probe,
    Request,
    Route,
    Surroundings,
    intake_path,
    refusal,
)
from bridge.channels.moments import from_unix
from bridge.channels.numbers import normal_number
from bridge.channels.settings import Peers, Region, Secrets, is_one_of, is_peer
from bridge.channels.xml import read_xml
from bridge.config.values import Section
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi


class KannelSettings(Section):
    """An SMS gateway's incoming texts. Kannel signs nothing: a secret in its URL is what tells it from others."""

    secrets: Secrets = Field(
        description="What stands as `secret` in the URL; several while it is being rotated."
    )
    peers: Peers = Field(
        default=(),
        description="The networks that smsbox's requests come from; behind a reverse proxy this needs listen.proxies.",
    )
    region: Region | None = Field(
        default=None, description="The country (US, GB, ...) of numbers that come without a country code."
    )


def build(channel: ChannelId, settings: KannelSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages. Raises `SecretUnreadableError`."""
    handler = _handler(channel, settings, around)
    path = intake_path(channel)
    return Channel(channel, KANNEL.name, (Route("GET", path, handler), Route("POST", path, handler)))


def sample(settings: KannelSettings, probe: Probe) -> Request:
    """A text as smsbox would request it."""
    fields = {
        "secret": settings.secrets[0].read_text(),
        "id": probe.key,
        "from": probe.caller,
        "to": probe.recipient,
        "text": probe.text,
        "unix": str(int(probe.at.timestamp())),
    }
    return probe.request("", {}, f"?{urlencode(fields)}")


KANNEL = ChannelType("kannel", KannelSettings, build, (EventKind.TEXT,), sample, replies=True)


def _handler(channel: ChannelId, settings: KannelSettings, around: Surroundings) -> Handler:
    secrets = [reference.read_text() for reference in settings.secrets]

    async def take(request: Request) -> Answer:
        query = _query(request.target)
        if settings.peers and not is_peer(request.peer, settings.peers):
            return refusal(403, "unknown_peer", "The sender's address is not among this channel's peers.")
        if not is_one_of(secrets, _text(query.pop("secret", b""))):
            return refusal(403, "bad_secret", "The URL needs this channel's secret: ?secret=...")
        message = _message(query, request)
        if not message.id or not (message.sender or message.text):
            kept = await around.inbox.keep_unreadable(channel, _raw(query, request), "Kannel sent no message")
            return refusal(
                400, "unreadable_but_kept", "The URL needs id=%I, from=%p and to=%P.", id=kept.intake
            )
        event = _event(channel, message, settings.region)
        receipt = await around.inbox.accept(event)
        # Kannel sends the text of an answer to the patient.
        said = await around.reply(event, receipt.intake) or ""
        return Answer("duplicate" if receipt.duplicate else "accepted", 200, said, "text/plain")

    return take


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as smsbox describes it, in whichever of its three ways."""

    id: str
    sender: str
    receiver: str
    text: str
    part: str | None
    sent_at: datetime | None


def _message(query: dict[str, bytes], request: Request) -> _Message:
    """What URL and body say together; the URL counts where both do."""
    said = _of_body(request)
    data = query.get("text", said.get("text", b""))
    coding, charset = (_text(query.get(name, said.get(name, b""))) for name in ("coding", "charset"))
    return _Message(
        id=_text(query.get("id", b"")),
        sender=_text(query.get("from", said.get("from", b""))),
        receiver=_text(query.get("to", said.get("to", b""))),
        text=_decoded(data, coding, charset),
        part=_part(query.get("udh", said.get("udh", b""))),
        sent_at=from_unix(_text(query.get("unix", b""))),
    )


def _of_body(request: Request) -> dict[str, bytes]:
    """The fields that stand in headers and body of a POST, under the names of the URL's."""
    content_type, _, parameters = request.headers.get("Content-Type", "").partition(";")
    body = request.body
    if not body:
        return {}
    if content_type.strip().lower() == "text/xml" and (root := read_xml(body)) is not None:
        places = {"from": "oa/number", "to": "da/number", "text": "ud", "udh": "udh", "coding": "dcs/coding"}
        found = {name: root.findtext(f"submit/{place}") or "" for name, place in places.items()}
        return {name: unquote_to_bytes(value.replace("+", " ")) for name, value in found.items()}
    charset = re.search(r'charset="?([\w-]+)', parameters)
    sent = {
        "from": request.headers.get("X-Kannel-From", ""),
        "to": request.headers.get("X-Kannel-To", ""),
        "coding": request.headers.get("X-Kannel-Coding", ""),
        "charset": charset[1] if charset else "",
    }
    udh = request.headers.get("X-Kannel-UDH", "")
    return {
        **{name: value.encode(errors="surrogateescape") for name, value in sent.items()},
        "text": body.reveal(),
        "udh": bytes.fromhex(udh) if re.fullmatch("([0-9A-Fa-f]{2})+", udh) else b"",
    }


def _event(channel: ChannelId, message: _Message, region: str | None) -> IntakeEvent:
    return IntakeEvent(
        channel=channel,
        key=Phi(message.id),
        kind=EventKind.TEXT,
        body=Phi(message.text),
        caller=normal_number(message.sender, region),
        called=normal_number(message.receiver, region),
        occurred_at=message.sent_at,
        attributes={"part": Phi(message.part)} if message.part else {},
    )


def _query(target: str) -> dict[str, bytes]:
    """The URL's fields as bytes: a text stands in them in its own charset."""
    pairs = parse_qsl(target.partition("?")[2], keep_blank_values=True, encoding="latin-1")
    return {name: value.encode("latin-1", errors="replace") for name, value in pairs}


def _raw(query: dict[str, bytes], request: Request) -> Phi[bytes]:
    """The request without its secret, for a person to look at."""
    fields = b"&".join(name.encode(errors="replace") + b"=" + value for name, value in query.items())
    return Phi(fields + b"\n" * bool(fields and request.body) + request.body.reveal())


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _decoded(data: bytes, coding: str, charset: str) -> str:
    """The text of a message. With `mo-recode` Kannel sends UTF-8, else what the telephone sent."""
    if charset.upper().startswith(("UTF-16", "UCS-2")) or (coding == _UCS2 and not charset):
        return data.decode("utf-16-be", errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


_UCS2 = "2"  # 3GPP TS 23.038: the data coding of 16-bit characters


def _part(header: bytes) -> str | None:
    """Which part of how many a message is, by its user data header (3GPP TS 23.040, 9.2.3.24).

    Kannel joins the parts of a long text, and sends them one by one only when one of them fails to come.
    """
    rest = header[1:]
    while len(rest) > 1 and len(rest) >= 2 + rest[1]:
        kind, value, rest = rest[0], rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
        if (kind, len(value)) in ((0, 3), (8, 4)):  # concatenated, with a reference of 8 or 16 bits
            return f"{value[-1]}/{value[-2]}"
    return None
