"""Texts from Telnyx: the webhook of its messaging API, version 2.

https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks (its fields and its signature),
https://developers.telnyx.com/docs/messaging/messages/send-message and
https://developers.telnyx.com/docs/development/api-fundamentals/idempotency (how a text is answered).
How to set it up: docs/channels/telnyx.md.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from bridge.channels.asking import Asking, Provider, wordless
from bridge.channels.channel import (
    Answer,
    Channel,
    ChannelType,
    Handler,
    NoSampleError,
    Probe,
    Recount,
    Request,
    Route,
    Surroundings,
    intake_path,
    refusal,
)
from bridge.channels.fetching import OF_ITS_ADDRESS, named
from bridge.channels.forms import signed_bytes
from bridge.channels.moments import Moment, from_unix
from bridge.channels.numbers import normal_number
from bridge.channels.settings import OwnNumbers
from bridge.channels.telnyx_records import Record, came_in, retrieve
from bridge.channels.texting import parties, post
from bridge.config.values import SecretRef, SecretUnreadableError, Section, Setting, one_or_more
from bridge.model.attachment import MOST
from bridge.model.doors import Texter
from bridge.model.errors import SourceError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

TOLERANCE = timedelta(minutes=5)  # Telnyx's own; older requests may be replays


def _public_key(written: str) -> str:
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(written, validate=True))
    except ValueError:
        raise ValueError("should be the public key of the account, 44 characters of base64") from None
    return written


class TelnyxSettings(Section):
    """A Telnyx messaging profile's incoming texts."""

    public_keys: Annotated[
        tuple[Annotated[str, AfterValidator(_public_key)], ...], one_or_more, Field(min_length=1)
    ] = Field(description="The account's public key, which is no secret; several while it is being rotated.")
    test_key: SecretRef | None = Field(
        default=None,
        description="A key of your own for nightbell send: 32 random bytes in base64. What it signs is taken, too.",
    )
    reconcile: OwnNumbers = Field(
        default=(),
        description="The numbers whose texts Telnyx is asked for, so that none is lost; needs api_key.",
    )
    api_key: SecretRef | None = Field(
        default=None,
        description="An API key: with it Telnyx is asked, and senders are told the auto_reply of a rule.",
    )
    api: Setting = Field(default="https://api.telnyx.com", description="Where Telnyx's API is.")

    @model_validator(mode="after")
    def _by_which_key(self) -> Self:
        if self.reconcile and self.api_key is None:
            raise ValueError("reconcile needs api_key, with which Telnyx is asked")
        return self


def build(channel: ChannelId, settings: TelnyxSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages. Raises `SecretUnreadableError`."""
    path = intake_path(channel)
    route = Route("POST", path, _handler(channel, settings, around))
    recount, text = _recount(channel, settings, around), _texter(settings)
    return Channel(channel, TELNYX.name, (route,), media=OF_ITS_ADDRESS, recount=recount, text=text)


def _recount(channel: ChannelId, settings: TelnyxSettings, around: Surroundings) -> Recount | None:
    if not settings.reconcile or settings.api_key is None:
        return None
    telnyx = Provider("Telnyx", settings.api, f"Bearer {settings.api_key.read_text()}", "api_key")

    async def recount(since: datetime, until: datetime) -> list[IntakeEvent]:
        async with telnyx.asking() as asking:
            records = await came_in(asking, settings.reconcile, since, until)
            return [
                await _found(channel, asking, record)
                for record in records
                if await around.inbox.kind_of(channel, Phi(record.uuid)) is None
            ]

    return recount


async def _found(channel: ChannelId, asking: Asking, record: Record) -> IntakeEvent:
    """A text as its webhook would have told of it; without its words if Telnyx has only its record any more."""
    with suppress(SourceError, ValidationError):
        message = _Message.model_validate(await retrieve(asking, record))
        if message.text or message.media:
            return _intake_event(channel, record.uuid, message)
    return wordless(
        channel, record.uuid, "Telnyx", caller=record.cli, called=record.cld, at=record.created_at
    )


def sample(settings: TelnyxSettings, probe: Probe) -> Request:
    """A text as Telnyx would post it, signed with the operator's own key: nobody else has Telnyx's."""
    if settings.test_key is None:
        raise NoSampleError(
            "only Telnyx has the key that it signs with: text one of your numbers, or set this channel's test_key"
        )
    parties = {"from": {"phone_number": probe.caller}, "to": [{"phone_number": probe.recipient}]}
    payload = {**parties, "id": probe.key, "text": probe.text}
    body = json.dumps({"data": {"id": probe.key, "event_type": "message.received", "payload": payload}})
    at = str(int(probe.at.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "telnyx-timestamp": at,
        "telnyx-signature-ed25519": base64.b64encode(
            _test_key(settings.test_key).sign(f"{at}|{body}".encode())
        ).decode(),
    }
    return probe.request(body, headers)


TELNYX = ChannelType("telnyx", TelnyxSettings, build, (EventKind.TEXT,), sample, replies="api_key")


def _texter(settings: TelnyxSettings) -> Texter | None:
    if settings.api_key is None:
        return None
    url, key = f"{settings.api.rstrip('/')}/v2/messages", settings.api_key.read_text()

    async def send(event: IntakeEvent, words: str, once: str) -> bool:
        if (numbers := parties(event)) is None:
            return False
        to, sender = numbers
        proof = {"Authorization": f"Bearer {key}", "Idempotency-Key": once}
        await post(url, {"to": to, "from": sender, "text": words}, proof, repeats=True)
        return True

    return Texter(send, repeats=True)


class _Party(BaseModel):
    phone_number: str | None = None


class _Message(BaseModel):
    id: str | None = None
    sender: _Party = Field(alias="from")
    to: list[_Party] = []
    text: str | None = None
    media: list[Any] = []
    received_at: Moment | None = None


class _Event(BaseModel):
    id: str = Field(min_length=1)
    event_type: str
    payload: dict[str, Any]


class _Webhook(BaseModel):
    data: _Event


def _handler(channel: ChannelId, settings: TelnyxSettings, around: Surroundings) -> Handler:
    keys = [Ed25519PublicKey.from_public_bytes(base64.b64decode(key)) for key in settings.public_keys]
    if settings.test_key is not None:
        keys.append(_test_key(settings.test_key).public_key())

    async def take(request: Request) -> Answer:
        if not is_signed(request, keys):
            return refusal(403, "bad_signature", "telnyx-signature-ed25519 does not fit: check public_keys.")
        signed_at = from_unix(request.headers.get("telnyx-timestamp", ""))
        if signed_at is None or abs(around.now() - signed_at) > TOLERANCE:
            return refusal(403, "stale_timestamp", "telnyx-timestamp is more than 5 minutes off; sign again.")
        try:
            event = _Webhook.model_validate_json(request.body.reveal()).data
            if event.event_type != "message.received":
                return Answer("ignored", 200, "")
            message = _Message.model_validate(event.payload)
        except ValidationError:
            kept = await around.inbox.keep_unreadable(channel, request.body, "Telnyx sent what is no event")
            return refusal(400, "unreadable_but_kept", "A message has data.id and payload.", id=kept.intake)
        # By the message's own id it is known in Telnyx's records, too.
        text = _intake_event(channel, message.id or event.id, message)
        receipt = await around.inbox.accept(text)
        if settings.api_key is not None:
            await around.text_back(text, receipt.intake)
        return Answer("duplicate" if receipt.duplicate else "accepted", 200, "")

    return take


def is_signed(request: Request, keys: Iterable[Ed25519PublicKey]) -> bool:
    """Tell whether one of the keys signed the request."""
    timestamp = signed_bytes(request.headers.get("telnyx-timestamp", ""))
    try:
        signature = base64.b64decode(signed_bytes(request.headers.get("telnyx-signature-ed25519", "")))
    except binascii.Error:
        return False
    return any(_fits(key, signature, timestamp + b"|" + request.body.reveal()) for key in keys)


def _test_key(reference: SecretRef) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(reference.read_text(), validate=True))
    except ValueError:
        wanted = f"the secret {reference} should be 32 bytes in base64: openssl rand -base64 32"
        raise SecretUnreadableError(wanted) from None


def _fits(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _intake_event(channel: ChannelId, key: str, message: _Message) -> IntakeEvent:
    return IntakeEvent(
        channel=channel,
        key=Phi(key),
        kind=EventKind.TEXT,
        body=Phi(message.text or ""),
        caller=normal_number(message.sender.phone_number, None),
        called=normal_number(message.to[0].phone_number, None) if message.to else None,
        occurred_at=message.received_at,
        attributes={"media_count": Phi(str(len(message.media)))} if message.media else {},
        attachments=tuple(filter(None, map(named, message.media[:MOST]))),
    )
