"""Events of any other system: JSON, signed per Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

The event's JSON Schema is docs/schemas/intake-event.schema.json; how to set it up: docs/channels/webhook.md.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

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
from bridge.channels.forms import signed_bytes
from bridge.channels.moments import Moment, from_unix
from bridge.channels.numbers import normal_number
from bridge.channels.settings import Region, Secrets
from bridge.config.values import SecretRef, SecretUnreadableError, Section
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.model.priority import Priority

UNLISTED = "_unlisted"  # the attribute that holds what the schema does not list; no sender can name one so
TOLERANCE = timedelta(minutes=5)  # the specification's; older requests may be replays


class WebhookSettings(Section):
    """A system that posts signed JSON events."""

    secrets: Secrets = Field(
        description="The secret shared with the sender, whsec_ and base64; several while it is being rotated."
    )
    region: Region | None = Field(
        default=None, description="The country (US, GB, ...) of numbers that come without a country code."
    )


_Short = Annotated[str, Field(max_length=255)]
# Names are not content: they stand in rules, and are never sealed.
_Name = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
_Attributes = Annotated[dict[_Name, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]


class Caller(BaseModel):
    """Who called or wrote."""

    number: _Short | None = Field(
        default=None,
        description="E.164, or as the source knows it; withheld numbers are left out.",
        examples=["+15550001111"],
    )
    name: _Short | None = Field(default=None, examples=["Maria Lopez"])


class Event(BaseModel):
    """One thing that happened in a call center. Fields that are not listed are kept, and not looked at."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "examples": [
                {
                    "kind": "text",
                    "body": "My incision is bleeding, please call me",
                    "caller": {"number": "+15550001111", "name": "Maria Lopez"},
                    "called": "+15554567890",
                    "priority": "urgent",
                    "occurred_at": "2026-11-24T03:12:45Z",
                },
                {
                    "kind": "abandoned_call",
                    "body": "",
                    "caller": {"number": "+15550001111"},
                    "queue": "heart",
                },
                {"kind": "page", "body": "Bed 12: potassium 6.8", "recipient": "cardiology"},
            ],
        },
    )

    kind: EventKind = Field(description="What happened.")
    body: str = Field(description="The text, or what there is to say about a call; it may be empty.")
    caller: Caller | None = Field(default=None, description="Who called or wrote.")
    called: _Short | None = Field(
        default=None,
        description="The number that was called or written to; routing rules look at it.",
        examples=["+15554567890"],
    )
    recipient: _Short | None = Field(
        default=None,
        description="The role or pager address that the sender means.",
        examples=["cardiology"],
    )
    queue: _Short | None = Field(
        default=None, description="The queue in which a caller waited.", examples=["cardiology"]
    )
    language: str | None = Field(
        default=None,
        pattern="^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}$",
        description="The caller's language, as a BCP 47 tag.",
        examples=["es"],
    )
    priority: Priority | None = Field(
        default=None, description="The sender's opinion; routing rules may look at it, and decide."
    )
    occurred_at: Moment | None = Field(
        default=None, description="When it happened, with its offset from UTC; left out, when it arrived."
    )
    attributes: _Attributes | None = Field(
        default=None,
        description="Anything else that routing rules or templates use. Names must not tell of a person.",
        examples=[{"clinic": "north"}],
    )


def event_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event, as published in docs/schemas."""
    return Event.model_json_schema()


def build(channel: ChannelId, settings: WebhookSettings, around: Surroundings) -> Channel:
    """A channel that takes signed JSON events. Raises `SecretUnreadableError`."""
    path = intake_path(channel)
    return Channel(channel, WEBHOOK.name, (Route("POST", path, _handler(channel, settings, around)),))


def sample(settings: WebhookSettings, probe: Probe) -> Request:
    """An event as any sender would sign it."""
    said = {"kind": probe.kind or EventKind.PAGE, "body": probe.text, "recipient": probe.recipient}
    body = json.dumps({**said, "caller": {"number": probe.caller, "name": probe.caller_name}})
    signature = Webhook(_shared_secret(settings.secrets[0])).sign(probe.key, probe.at, body)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": probe.key,
        "webhook-timestamp": str(int(probe.at.timestamp())),
        "webhook-signature": signature,
    }
    return probe.request(body, headers)


_KINDS = (EventKind.PAGE, *(kind for kind in EventKind if kind is not EventKind.PAGE))
WEBHOOK = ChannelType("webhook", WebhookSettings, build, _KINDS, sample)


def _handler(channel: ChannelId, settings: WebhookSettings, around: Surroundings) -> Handler:
    secrets = [_shared_secret(reference) for reference in settings.secrets]

    async def take(request: Request) -> Answer:
        signed_at = signing_time(request)
        if signed_at is None or not is_signed(request, signed_at, secrets):
            return refusal(
                403,
                "bad_signature",
                "Sign id, timestamp and body with this channel's secret (Standard Webhooks).",
            )
        if abs(around.now() - signed_at) > TOLERANCE:
            return refusal(
                403, "stale_timestamp", "webhook-timestamp is more than 5 minutes off; sign again."
            )
        try:
            event = Event.model_validate_json(request.body.reveal())
        except ValidationError as error:
            kept = await around.inbox.keep_unreadable(
                channel, request.body, "an event does not fit the schema"
            )
            return refusal(400, "unreadable_but_kept", **_first_fault(error), id=kept.intake)
        key = Phi(request.headers["webhook-id"])
        receipt = await around.inbox.accept(intake_event(channel, key, event, settings.region))
        outcome = "duplicate" if receipt.duplicate else "accepted"
        return Answer(outcome, 202, json.dumps({"status": "accepted", "id": receipt.intake}))

    return take


def _shared_secret(reference: SecretRef) -> str:
    secret = reference.read_text()
    try:
        Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        raise SecretUnreadableError(f"the secret {reference} should be whsec_ and base64") from None
    return secret


def signing_time(request: Request) -> datetime | None:
    """When the request says that it was signed; None if it doesn't."""
    return from_unix(request.headers.get("webhook-timestamp", ""))


def is_signed(request: Request, signed_at: datetime, secrets: Iterable[str]) -> bool:
    """Tell whether one of the secrets signed the request at that time.

    The library's own `verify` reads the wall clock, where the bridge has one clock, and its handler asks it; and it
    takes nothing but UTF-8, where a sender may sign any bytes: those are kept for a person to look at.
    """
    message_id = signed_bytes(request.headers.get("webhook-id", ""))
    given = [signed_bytes(one) for one in request.headers.get("webhook-signature", "").split(" ")]
    signed = b"%b.%d.%b" % (message_id, int(signed_at.timestamp()), request.body.reveal())
    expected = [_signature(secret, signed) for secret in secrets]
    return bool(message_id) and any(hmac.compare_digest(right, one) for right in expected for one in given)


def _signature(secret: str, signed: bytes) -> bytes:
    key = base64.b64decode(secret.removeprefix("whsec_") + "==")  # which it may lack
    return b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))


def intake_event(channel: ChannelId, key: Phi[str], event: Event, region: str | None) -> IntakeEvent:
    """The house's form of an event."""
    caller = event.caller or Caller()
    attributes = dict(event.attributes or {})
    if event.model_extra:  # a sender's newer or misspelt field must not cost a page, and is not lost either
        attributes[UNLISTED] = json.dumps(event.model_extra, ensure_ascii=False)
    return IntakeEvent(
        channel=channel,
        key=key,
        kind=event.kind,
        body=Phi(event.body),
        caller=normal_number(caller.number, region),
        caller_name=protect_optional(caller.name),
        called=normal_number(event.called, region),
        recipient=protect_optional(event.recipient),
        queue=protect_optional(event.queue),
        language=event.language,
        priority=event.priority,
        occurred_at=event.occurred_at,
        attributes={name: Phi(value) for name, value in attributes.items()},
    )


def _first_fault(error: ValidationError) -> dict[str, str]:
    """Where and how an event fails the schema, without anything that the sender wrote."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # The names of attributes are the sender's own.
    place = fault["loc"][:1] if fault["loc"][:1] == ("attributes",) else fault["loc"]
    return {"pointer": "".join(f"/{name}" for name in place), "message": fault["msg"]}
