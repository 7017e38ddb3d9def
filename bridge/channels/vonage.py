"""Texts from Vonage: the webhooks of its Messages API (signed with a JWT) and of its older SMS API (`sig`).

https://developer.vonage.com/en/messages/concepts/inbound-messages, .../getting-started/concepts/webhooks (JWT),
https://developer.vonage.com/en/messaging/sms/guides/inbound-sms, .../concepts/signing-messages (`sig`),
https://developer.vonage.com/en/messages/code-snippets/sms/send-sms (how a text is answered).
How to set it up: docs/channels/vonage.md.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import md5, sha256
from typing import Any, Literal, Self
from uuid import uuid4

import jwt
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

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
from bridge.channels.fetching import OF_ITS_ADDRESS, basic_auth, named
from bridge.channels.forms import form_fields, readable, signed_bytes
from bridge.channels.moments import Moment, from_unix
from bridge.channels.numbers import normal_number, with_plus
from bridge.channels.settings import OwnNumbers, Secrets
from bridge.channels.texting import parties, post
from bridge.channels.vonage_reports import Record, came_in
from bridge.config.values import SecretRef, SecretUnreadableError, Section, Setting
from bridge.model.doors import Texter
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional

# Vonage repeats for a day what was not taken, and does not say whether it signs each repetition anew.
OLDEST = timedelta(hours=24)
AHEAD = timedelta(minutes=5)
TOKEN_SECONDS = 15 * 60


class VonageApplication(Section):
    """An application of Vonage's, with the Messages capability, to which the numbers are linked."""

    id: Setting = Field(description="The application's ID.")
    private_key: SecretRef = Field(description="Its private key, in PEM, as Vonage gave it when it was made.")


class VonageSettings(Section):
    """A Vonage account's incoming texts."""

    secrets: Secrets = Field(
        description="The account's signature secret, with which Vonage signs; several while it is being rotated."
    )
    sms_api_signature: Literal["md5hash", "md5", "sha1", "sha256", "sha512"] | None = Field(
        default=None,
        description="How the older SMS API signs, as in the account's settings. Left out, only the JWTs of the "
        "Messages API are taken.",
    )
    reconcile: OwnNumbers = Field(
        default=(),
        description="The numbers whose texts Vonage is asked for, so that none is lost; needs api_key and api_secret.",
    )
    api_key: Setting | None = Field(
        default=None, description="The account's API key, which is its name, to ask Vonage with."
    )
    api_secret: SecretRef | None = Field(default=None, description="The account's API secret, likewise.")
    application: VonageApplication | None = Field(
        default=None,
        description="With which senders are told the auto_reply of a rule: id and private_key.",
    )
    api: Setting = Field(
        default="https://api.nexmo.com", description="Where Vonage's Reports API and Messages API are."
    )

    @model_validator(mode="after")
    def _by_which_key(self) -> Self:
        if self.reconcile and (self.api_key is None or self.api_secret is None):
            raise ValueError("reconcile needs api_key and api_secret, with which Vonage is asked")
        return self


def build(channel: ChannelId, settings: VonageSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages. Raises `SecretUnreadableError`."""
    path = intake_path(channel)
    route = Route("POST", path, _handler(channel, settings, around))
    recount = _recount(channel, settings, around)
    text = _texter(settings, settings.application, around) if settings.application is not None else None
    return Channel(channel, VONAGE.name, (route,), media=OF_ITS_ADDRESS, recount=recount, text=text)


def _recount(channel: ChannelId, settings: VonageSettings, around: Surroundings) -> Recount | None:
    if not settings.reconcile or settings.api_key is None or settings.api_secret is None:
        return None
    key = settings.api_key
    proof = basic_auth(key, settings.api_secret.read_text())
    vonage = Provider("Vonage", settings.api, proof, "api_key and api_secret")
    # A text of both APIs would stand in both, under two ids: only those of the one that tells of it are asked for.
    product = "SMS" if settings.sms_api_signature else "MESSAGES"

    async def recount(since: datetime, until: datetime) -> list[IntakeEvent]:
        async with vonage.asking() as asking:
            records = await came_in(asking, key, product, since, until)
        return [
            _of_record(channel, one)
            for one in records
            if with_plus(one.to) in settings.reconcile
            and await around.inbox.kind_of(channel, Phi(one.message_id)) is None
        ]

    return recount


def _of_record(channel: ChannelId, record: Record) -> IntakeEvent:
    event = wordless(
        channel,
        record.message_id,
        "Vonage",
        caller=with_plus(record.sender),
        called=with_plus(record.to),
        at=record.date_received,
    )
    if not record.message_body:
        return event
    return replace(event, key=Phi(record.message_id), body=Phi(record.message_body))


def sample(settings: VonageSettings, probe: Probe) -> Request:
    """A text as Vonage's Messages API would post it."""
    message = {"message_uuid": probe.key, "from": probe.caller.removeprefix("+"), "to": probe.recipient}
    message |= {"text": probe.text, "channel": "sms", "message_type": "text"}
    body = json.dumps({**message, "profile": {"name": probe.caller_name}})
    claims = {"iat": int(probe.at.timestamp()), "payload_hash": sha256(body.encode()).hexdigest()}
    token = jwt.encode(claims, settings.secrets[0].read_text(), algorithm="HS256")
    return probe.request(body, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})


VONAGE = ChannelType("vonage", VonageSettings, build, (EventKind.TEXT,), sample, replies="application")


def _texter(settings: VonageSettings, application: VonageApplication, around: Surroundings) -> Texter:
    key = application.private_key.read_text()
    try:
        jwt.encode({}, key, algorithm="RS256")
    except (jwt.PyJWTError, ValueError):
        message = f"{application.private_key} should hold the application's private key, in PEM"
        raise SecretUnreadableError(message) from None
    url = f"{settings.api.rstrip('/')}/v1/messages"

    async def send(event: IntakeEvent, words: str, once: str) -> bool:
        if (numbers := parties(event)) is None:
            return False
        to, sender = (number.removeprefix("+") for number in numbers)
        text = {"to": to, "from": sender, "channel": "sms", "message_type": "text", "text": words}
        text["client_ref"] = once
        now = int(around.now().timestamp())
        claims = {
            "application_id": application.id,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "jti": uuid4().hex,
        }
        proof = {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm='RS256')}"}
        await post(url, text, proof, repeats=False)
        return True

    return Texter(send, repeats=False)


def _handler(channel: ChannelId, settings: VonageSettings, around: Surroundings) -> Handler:
    secrets = [reference.read_text() for reference in settings.secrets]

    async def take(request: Request) -> Answer:
        signed_at = jwt_time(request, secrets)
        fields = None if signed_at else _flat_fields(request)
        if fields is not None and settings.sms_api_signature:
            signed_at = _sms_api_time(fields, settings.sms_api_signature, secrets)
        if signed_at is None:
            return refusal(403, "bad_signature", "Neither a JWT nor a sig fits: check the signature secret.")
        if not -AHEAD <= around.now() - signed_at <= OLDEST:
            return refusal(403, "stale_timestamp", "The request was signed more than a day ago, or ahead.")
        try:
            event = _of_sms_api(channel, fields) if fields is not None else _of_messages_api(channel, request)
        except ValidationError:
            kept = await around.inbox.keep_unreadable(channel, request.body, "Vonage sent what is no message")
            return refusal(400, "unreadable_but_kept", "A message has an id and a sender.", id=kept.intake)
        if event is None:
            return Answer("ignored", 200, "")
        receipt = await around.inbox.accept(event)
        if settings.application is not None and "service" not in event.attributes:
            await around.text_back(event, receipt.intake)
        return Answer("duplicate" if receipt.duplicate else "accepted", 200, "")

    return take


def jwt_time(request: Request, secrets: Iterable[str]) -> datetime | None:
    """When the request was signed with a JWT; None if it was not, or its body is another one's."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    digest = sha256(request.body.reveal()).hexdigest().encode()
    for secret in secrets:
        try:
            # The signature alone: the bridge has one clock, and its handler asks it.
            claims = _Claims.model_validate_json(jwt.PyJWS().decode(token, secret, ["HS256"]))
        except (jwt.PyJWTError, ValueError):
            continue
        if hmac.compare_digest(signed_bytes(claims.payload_hash), digest):
            return from_unix(str(claims.iat))
    return None


class _Claims(BaseModel):
    payload_hash: str
    iat: int


class _Profile(BaseModel):
    name: str | None = None


class _Message(BaseModel):
    message_uuid: str = Field(min_length=1)
    status: str | None = None
    channel: str = "sms"
    message_type: str = "text"
    text: str | None = None
    image: Any = None
    audio: Any = None
    video: Any = None
    file: Any = None
    sender: str | None = Field(default=None, alias="from")
    to: str | None = None
    timestamp: Moment | None = None
    profile: _Profile = _Profile()


def _of_messages_api(channel: ChannelId, request: Request) -> IntakeEvent | None:
    message = _Message.model_validate_json(request.body.reveal())
    if message.status is not None:
        return None
    media = (message.image, message.audio, message.video, message.file)
    captions = [
        each["caption"] for each in media if isinstance(each, dict) and isinstance(each.get("caption"), str)
    ]
    attributes = {} if message.message_type == "text" else {"media_count": Phi("1")}
    if message.channel not in ("sms", "mms"):
        attributes["service"] = Phi(message.channel)
    return IntakeEvent(
        channel=channel,
        key=Phi(message.message_uuid),
        kind=EventKind.TEXT,
        body=Phi(message.text or "\n".join(captions)),
        caller=normal_number(with_plus(message.sender), None),
        caller_name=protect_optional(message.profile.name),
        called=normal_number(with_plus(message.to), None),
        occurred_at=message.timestamp,
        attributes=attributes,
        attachments=tuple(filter(None, map(named, media))),
    )


_FLAT = TypeAdapter(dict[str, str | int])


def _flat_fields(request: Request) -> dict[str, str] | None:
    """The SMS API's fields: a form, or JSON without any depth. None if the body is neither."""
    form = form_fields(request)
    if form is not None:
        return readable(form)
    try:
        return {name: str(value) for name, value in _FLAT.validate_json(request.body.reveal()).items()}
    except ValidationError:
        return None


def _sms_api_time(fields: dict[str, str], method: str, secrets: Iterable[str]) -> datetime | None:
    """When fields were signed with `sig`; None if they were not."""
    given = signed_bytes(fields.get("sig", "").lower())
    expected = [sms_api_signature(fields, method, secret).encode() for secret in secrets]
    fits = any(hmac.compare_digest(right, given) for right in expected)
    return from_unix(fields.get("timestamp", "")) if fits else None


def sms_api_signature(fields: dict[str, str], method: str, secret: str) -> str:
    """The `sig` of fields: over all the others, sorted, with what separates them replaced in their values."""
    plain = str.maketrans("&=", "__")
    signed = "".join(
        f"&{name}={value.translate(plain)}" for name, value in sorted(fields.items()) if name != "sig"
    )
    if method == "md5hash":
        return md5((signed + secret).encode(), usedforsecurity=False).hexdigest()
    return hmac.digest(secret.encode(), signed.encode(), method).hex()


class _Text(BaseModel):
    message_id: str = Field(alias="messageId", min_length=1)
    msisdn: str
    status: str | None = None
    to: str | None = None
    text: str = ""
    data: str | None = None  # of a binary message, in hexadecimal
    timestamp: str = ""
    concat_part: str | None = Field(default=None, alias="concat-part")
    concat_total: str | None = Field(default=None, alias="concat-total")


def _of_sms_api(channel: ChannelId, fields: dict[str, Any]) -> IntakeEvent | None:
    message = _Text.model_validate(fields)
    if message.status is not None:
        return None
    attributes = {}
    if message.concat_part:
        attributes["part"] = Phi(f"{message.concat_part}/{message.concat_total}")
    if message.data:
        attributes["data"] = Phi(message.data)
    return IntakeEvent(
        channel=channel,
        key=Phi(message.message_id),
        kind=EventKind.TEXT,
        body=Phi(message.text),
        caller=normal_number(with_plus(message.msisdn), None),
        called=normal_number(with_plus(message.to), None),
        occurred_at=from_unix(message.timestamp),
        attributes=attributes,
    )
