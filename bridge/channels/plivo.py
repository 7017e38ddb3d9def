"""Texts from Plivo: the form that it posts to an application's message URL, signed in its third way.

https://www.plivo.com/docs/messaging/api/message/handling-incoming (its fields),
https://support.plivo.com/hc/en-us/articles/360041856452 (those of an MMS, counted otherwise),
https://www.plivo.com/docs/messaging/concepts/signature-validation (its signature).
How to set it up: docs/channels/plivo.md.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr

from pydantic import Field, model_validator

from bridge.channels.asking import Provider, wordless
from bridge.channels.channel import (
    Answer,
    Channel,
    ChannelType,
    Handler,
    Probe,
    Recount,
    Request,
    Route,
    Surroundings,
    intake_path,
    refusal,
)
from bridge.channels.fetching import OF_ITS_ADDRESS, basic_auth, fetch
from bridge.channels.forms import FORM, Fields, form_fields, readable, signed_bytes, spellings
from bridge.channels.numbers import normal_number, with_plus
from bridge.channels.plivo_records import Record, came_in
from bridge.channels.settings import OwnNumbers, Secrets
from bridge.config.values import Section, Setting
from bridge.model.attachment import MOST, Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

# Plivo signs with the token of the (sub)account, and again with that of the main account.
SIGNATURES = ("X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3")


class PlivoSettings(Section):
    """A Plivo application's incoming texts."""

    auth_token: Secrets = Field(
        description="The account's auth token, with which Plivo signs; several while it is being rotated."
    )
    auth_id: str | None = Field(
        default=None,
        description="The account's auth ID, if its media need it together with the auth token (basic auth for media).",
    )
    reconcile: OwnNumbers = Field(
        default=(),
        description="The numbers whose texts Plivo is asked for, so that none is lost; needs auth_id.",
    )
    api: Setting = Field(default="https://api.plivo.com", description="Where Plivo's API is.")

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.reconcile and self.auth_id is None:
            raise ValueError("reconcile needs auth_id, the account that is asked")
        return self


def build(channel: ChannelId, settings: PlivoSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages. Raises `SecretUnreadableError`."""
    route = Route("POST", intake_path(channel), _handler(channel, settings, around))
    recount = _recount(channel, settings, around)
    return Channel(channel, PLIVO.name, (route,), media=_media_source(settings), recount=recount)


def _recount(channel: ChannelId, settings: PlivoSettings, around: Surroundings) -> Recount | None:
    if not settings.reconcile or settings.auth_id is None:
        return None
    account = settings.auth_id
    proof = basic_auth(account, settings.auth_token[0].read_text())
    plivo = Provider("Plivo", settings.api, proof, "auth_id and auth_token")

    async def recount(since: datetime, until: datetime) -> list[IntakeEvent]:
        async with plivo.asking() as asking:
            records = await came_in(asking, account, since, until)
        return [
            _of_record(channel, one)
            for one in records
            if with_plus(one.to_number) in settings.reconcile
            and await around.inbox.kind_of(channel, Phi(one.message_uuid)) is None
        ]

    return recount


def _of_record(channel: ChannelId, record: Record) -> IntakeEvent:
    return wordless(
        channel,
        record.message_uuid,
        "Plivo",
        caller=with_plus(record.from_number),
        called=with_plus(record.to_number),
        at=record.message_time,
    )


def _media_source(settings: PlivoSettings) -> MediaSource:
    if settings.auth_id is None:
        return OF_ITS_ADDRESS
    auth = basic_auth(settings.auth_id, settings.auth_token[0].read_text())

    async def get(attachment: Attachment) -> Fetched:
        url = attachment.place.reveal() if attachment.place is not None else ""
        if not url.startswith("https://") or not (urlsplit(url).hostname or "").endswith(".plivo.com"):
            raise MediaError("its address is not one of Plivo's", retry=False)
        return await fetch(url, auth)

    return MediaSource(get)


def sample(settings: PlivoSettings, probe: Probe) -> Request:
    """A text as Plivo would post it."""
    fields = [
        ("MessageUUID", probe.key),
        ("From", probe.caller),
        ("To", probe.recipient),
        ("Text", probe.text),
    ]
    signed = f"{_signed_url(probe.url, fields)}.{probe.key}"
    headers = {
        "Content-Type": FORM,
        "X-Plivo-Signature-V3-Nonce": probe.key,
        "X-Plivo-Signature-V3": _signature(signed, settings.auth_token[0].read_text()).decode(),
    }
    return probe.request(urlencode(fields), headers)


PLIVO = ChannelType("plivo", PlivoSettings, build, (EventKind.TEXT,), sample, replies=True)

# XML that does nothing: no reply is sent.
_DONE = '<?xml version="1.0" encoding="UTF-8"?><Response/>'


def _handler(channel: ChannelId, settings: PlivoSettings, around: Surroundings) -> Handler:
    tokens = [reference.read_text() for reference in settings.auth_token]

    async def take(request: Request) -> Answer:
        fields = form_fields(request)
        if fields is None or not is_signed(request, fields, around.public_url, tokens):
            return refusal(
                403, "bad_signature", "X-Plivo-Signature-V3 does not fit: check auth_token and public_url."
            )
        form = readable(fields)
        if form.get("MessageUUID") and form.get("Status", "received") != "received":
            return Answer("ignored", 200, _DONE, "application/xml")
        event = _intake_event(channel, form)
        if event is None:
            kept = await around.inbox.keep_unreadable(channel, request.body, "Plivo sent what is no message")
            return refusal(
                400, "unreadable_but_kept", "A message has MessageUUID, and From or Text.", id=kept.intake
            )
        receipt = await around.inbox.accept(event)
        said = await around.reply(event, receipt.intake)
        answer = _DONE if said is None else _message(form, said)
        return Answer("duplicate" if receipt.duplicate else "accepted", 200, answer, "application/xml")

    return take


def _message(form: dict[str, str], said: str) -> str:
    """XML that answers the sender (Plivo XML, `Message`)."""
    ours, theirs = quoteattr(form.get("To", "")), quoteattr(form.get("From", ""))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Response><Message src={ours} dst={theirs}>{escape(said)}</Message></Response>"
    )


def is_signed(request: Request, fields: Fields, public_url: str, tokens: Iterable[str]) -> bool:
    """Tell whether one of the tokens signed the request: its address, its fields and its nonce."""
    nonce = request.headers.get("X-Plivo-Signature-V3-Nonce", "")
    given = [
        signed_bytes(signature.strip())
        for header in SIGNATURES
        for signature in request.headers.get(header, "").split(",")
    ]
    expected = [
        _signature(f"{_signed_url(base + request.target, fields)}.{nonce}", token)
        for token in tokens
        for base in spellings(public_url)
    ]
    return bool(nonce) and any(hmac.compare_digest(right, one) for right in expected for one in given)


def _signed_url(url: str, fields: Fields) -> str:
    """The address with its query in order, and the fields after it."""
    base, _, query = url.partition("?")
    asked = "&".join(f"{name}={value}" for name, value in sorted(_query(query)))
    if not asked and not fields:
        return base
    return f"{base}?{asked}{'.' if asked and fields else ''}{''.join(name + value for name, value in sorted(fields))}"


def _query(query: str) -> Fields:
    return parse_qsl(query, keep_blank_values=True, errors="surrogateescape")


def _signature(signed: str, token: str) -> bytes:
    return base64.b64encode(hmac.digest(token.encode(), signed_bytes(signed), "sha256"))


def _intake_event(channel: ChannelId, form: dict[str, str]) -> IntakeEvent | None:
    key, sender = form.get("MessageUUID"), form.get("From")
    body = form.get("Text") or form.get("Body")  # of an SMS, of an MMS
    if not key or (not sender and not body):
        return None
    media = form.get("MediaCount", "0")
    return IntakeEvent(
        channel=channel,
        key=Phi(key),
        kind=EventKind.TEXT,
        body=Phi(body or ""),
        caller=normal_number(with_plus(sender), None),
        called=normal_number(with_plus(form.get("To")), None),
        attributes={} if media == "0" else {"media_count": Phi(media)},
        attachments=_media(form),
    )


def _media(form: dict[str, str]) -> tuple[Attachment, ...]:
    """An MMS's files. Plivo's reference counts them from Media1, its support articles from Media0: both are taken."""
    places = [url for n in range(MOST + 1) if (url := form.get(f"Media{n}"))]
    return tuple(Attachment(place=Phi(url)) for url in places[:MOST])
