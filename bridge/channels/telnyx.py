"""Texts from Telnyx: the webhook of its messaging API, version 2.

https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks (its fields and its signature).
How to set it up: docs/channels/telnyx.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from bridge.channels.channel import (
    Answer,
    Channel,
    ChannelType,
    Handler,
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
from bridge.config.values import Section, one_or_more
from bridge.model.attachment import MOST
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


def build(channel: ChannelId, settings: TelnyxSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages."""
    path = intake_path(channel)
    route = Route("POST", path, _handler(channel, settings, around))
    return Channel(channel, TELNYX.name, (route,), media=OF_ITS_ADDRESS)


TELNYX = ChannelType("telnyx", TelnyxSettings, build)


class _Party(BaseModel):
    phone_number: str | None = None


class _Message(BaseModel):
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
        receipt = await around.inbox.accept(_intake_event(channel, event.id, message))
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
