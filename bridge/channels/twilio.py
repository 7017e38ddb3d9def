"""Texts and calls from Twilio: the webhooks that Twilio posts for an incoming message and about a call.

https://www.twilio.com/docs/messaging/guides/webhook-request (a message's fields; a call's: `twilio_voice`),
https://www.twilio.com/docs/usage/security (its signature). How to set it up: docs/channels/twilio.md.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Self
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

from pydantic import Field, model_validator

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
from bridge.channels.forms import FORM, Fields, form_fields, readable, signed_bytes, spellings
from bridge.channels.numbers import normal_number
from bridge.channels.settings import OwnNumbers, Region, Secrets
from bridge.channels.twilio_account import EVENTS_AFTER, Account
from bridge.channels.twilio_media import media_source, pictures
from bridge.channels.twilio_menu import (
    Pressed,
    Take,
    VoiceSettings,
    emergency,
    menu,
    message_besides,
    take_call,
)
from bridge.channels.twilio_voice import call
from bridge.config.values import SecretRef, Section, Setting
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional


class TwilioSettings(Section):
    """A Twilio number's incoming texts and calls, or a messaging service's texts."""

    auth_token: Secrets = Field(
        description="The account's auth token, with which Twilio signs; several while it is being rotated."
    )
    account_sid: str | None = Field(
        default=None,
        description="If given, messages of other accounts are refused, even rightly signed ones.",
    )
    region: Region | None = Field(
        default=None, description="The country (US, GB, ...) of numbers that come without a country code."
    )
    reconcile: OwnNumbers = Field(
        default=(),
        description="The numbers whose texts and calls Twilio is asked for, so that none is lost; needs account_sid.",
    )
    api: Setting = Field(
        default="https://api.twilio.com", description="Where Twilio's REST API is; another one for a region."
    )

    voice: VoiceSettings | None = Field(
        default=None,
        description="What callers hear whose calls come to the bridge itself: a menu, and a voicemail.",
    )
    api_key: SecretRef | None = Field(
        default=None,
        description="An API key, SK...:secret, to fetch recordings and pictures with; the auth token, if left out.",
    )
    delete_media: bool = Field(
        default=False,
        description="Whether recordings and pictures are deleted at Twilio, once they are in the rooms.",
    )

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.reconcile and not self.account_sid:
            raise ValueError("reconcile needs account_sid, the account that is asked")
        return self


def build(channel: ChannelId, settings: TwilioSettings, around: Surroundings) -> Channel:
    """A channel that takes incoming messages and calls. Raises `SecretUnreadableError`."""
    path = intake_path(channel)
    takes = {"": _taker(channel, settings, around)}
    pressed: Pressed = {}
    if settings.voice is not None:
        takes |= menu(channel, settings.voice, settings.region, around, pressed)
    routes = tuple(
        Route("POST", path + under, _verified(settings, around, take)) for under, take in takes.items()
    )
    credentials = (settings.api_key or settings.auth_token[0]).read_text()
    source = media_source(settings.api.rstrip("/"), credentials, remove=settings.delete_media)
    return Channel(
        channel, TWILIO.name, routes, recount=_recount(channel, settings, around, pressed), media=source
    )


def _recount(
    channel: ChannelId, settings: TwilioSettings, around: Surroundings, pressed: Pressed
) -> Recount | None:
    if not settings.reconcile or not settings.account_sid:
        return None
    account = Account(settings.api, settings.account_sid, settings.auth_token[0].read_text())

    address = f"{around.public_url}{intake_path(channel)}"
    place = f"{address}/voice" if settings.voice is not None else None

    async def recount(since: datetime, until: datetime) -> list[IntakeEvent]:
        found = []
        for form in await account.happened(settings.reconcile, since, until, place):
            if "MessageSid" in form:
                event = message(channel, form, settings.region)
            else:
                event = emergency(call(channel, form, settings.region), pressed)
                if event is not None and event.kind is EventKind.VOICEMAIL:
                    known = await around.inbox.kind_of(channel, event.key)
                    event = event if known in (None, EventKind.VOICEMAIL) else message_besides(event)
            if event is not None:
                found.append(event)
        return found + await gave_up(since - EVENTS_AFTER, until - EVENTS_AFTER)

    async def is_known(sid: str) -> bool:
        return await around.inbox.kind_of(channel, Phi(sid)) is not None

    async def gave_up(since: datetime, until: datetime) -> list[IntakeEvent]:
        """The calls that a callback would have told of, and that the lists have as completed."""
        told = await account.told(settings.reconcile, since, until, address, is_known)
        found = (
            [call(channel, form, settings.region) for form in forms if "CallSid" in form] for forms in told
        )
        return [events[0] for each in found if (events := [event for event in each if event is not None])]

    return recount


def sample(settings: TwilioSettings, probe: Probe) -> Request:
    """A text, or the end of a call that nobody took, as Twilio would post it."""
    fields = [("AccountSid", settings.account_sid or ""), ("From", probe.caller), ("To", probe.recipient)]
    if probe.kind is EventKind.MISSED_CALL:
        fields += [("CallSid", f"CA{probe.key}"), ("CallerName", probe.caller_name)]
        fields += [("Direction", "inbound"), ("CallStatus", "no-answer")]
    else:
        fields += [("MessageSid", f"SM{probe.key}"), ("ProfileName", probe.caller_name), ("Body", probe.text)]
    signature = _signature(probe.url, fields, settings.auth_token[0].read_text(), "sha1")
    headers = {"Content-Type": FORM, "X-Twilio-Signature": signature.decode()}
    return probe.request(urlencode(fields), headers)


TWILIO = ChannelType(
    "twilio", TwilioSettings, build, (EventKind.TEXT, EventKind.MISSED_CALL), sample, replies=True
)

# TwiML that does nothing: no reply is sent.
_DONE = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
# TwiML that answers the sender: https://www.twilio.com/docs/messaging/twiml/message
_MESSAGE = '<?xml version="1.0" encoding="UTF-8"?><Response><Message>{}</Message></Response>'


def _verified(settings: TwilioSettings, around: Surroundings, take: Take) -> Handler:
    """Take only what Twilio has signed."""
    tokens = [reference.read_text() for reference in settings.auth_token]

    async def verify(request: Request) -> Answer:
        fields = form_fields(request)
        if not is_signed(request, fields, around.public_url, tokens):
            return refusal(
                403, "bad_signature", "X-Twilio-Signature does not fit: check auth_token and public_url."
            )
        form = readable(fields)
        if settings.account_sid and form.get("AccountSid") != settings.account_sid:
            return refusal(403, "wrong_account", "The AccountSid is not the one in the configuration.")
        return await take(request, form)

    return verify


def _taker(channel: ChannelId, settings: TwilioSettings, around: Surroundings) -> Take:
    async def take(request: Request, form: dict[str, str]) -> Answer:
        if form.get("MessageSid") and _status(form) not in ("received", "receiving"):
            return Answer("ignored", 200, _DONE, "text/xml")
        if form.get("CallSid") and not form.get("MessageSid"):
            event = call(channel, form, settings.region)
            if event is None:
                return Answer("ignored", 200, _DONE, "text/xml")
        else:
            event = message(channel, form, settings.region)
        if event is None:
            kept = await around.inbox.keep_unreadable(channel, request.body, "Twilio sent what is no message")
            return refusal(
                400,
                "unreadable_but_kept",
                "A message has MessageSid, and From or Body; a call has CallSid.",
                id=kept.intake,
            )
        accept = around.inbox.accept if event.kind is EventKind.TEXT else partial(take_call, around.inbox)
        receipt = await accept(event)
        said = await around.reply(event, receipt.intake) if event.kind is EventKind.TEXT else None
        answer = _DONE if said is None else _MESSAGE.format(escape(said))
        return Answer("duplicate" if receipt.duplicate else "accepted", 200, answer, "text/xml")

    return take


def _status(form: dict[str, str]) -> str:
    return form.get("MessageStatus") or form.get("SmsStatus") or "received"


def message(channel: ChannelId, form: dict[str, str], region: str | None) -> IntakeEvent | None:
    """The text that a form holds, or None if it is no message."""
    sid, sender, body = form.get("MessageSid"), form.get("From"), form.get("Body")
    if not sid or (not sender and not body):
        return None
    media = form.get("NumMedia", "0")
    return IntakeEvent(
        channel=channel,
        key=Phi(sid),
        kind=EventKind.TEXT,
        body=Phi(body or ""),
        caller=normal_number(sender, region),
        caller_name=protect_optional(form.get("ProfileName")),
        called=normal_number(form.get("To"), region),
        attributes={} if media == "0" else {"media_count": Phi(media)},
        attachments=pictures(form),
    )


def is_signed(request: Request, fields: Fields | None, public_url: str, tokens: Iterable[str]) -> bool:
    """Tell whether one of the tokens signed the request.

    A form is signed with its URL; anything else by its hash, which the URL then carries as `bodySHA256`.
    Twilio signs the URL with or without its port, so both count.
    """
    digest = _DIGESTS.get(_algorithm(request))
    if digest is None or (fields is None and not _hash_fits(request)):
        return False
    given = signed_bytes(request.headers.get("X-Twilio-Signature", ""))
    return any(
        hmac.compare_digest(_signature(base + request.target, fields or [], token, digest), given)
        for token in tokens
        for base in spellings(public_url)
    )


# Accounts with a shared key for webhooks name its algorithm in a header; the others use SHA-1.
_DIGESTS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


def _algorithm(request: Request) -> str:
    settings = request.headers.get("X-Twilio-Webhooks-Signature-Settings", "")
    named = dict(part.strip().partition("=")[::2] for part in settings.split(","))
    return named.get("algorithm", "").upper() or "HMAC_SHA1"


def _signature(url: str, fields: Fields, token: str, digest: str) -> bytes:
    # A field that is repeated with the same value counts once.
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), signed_bytes(signed), digest))


def _hash_fits(request: Request) -> bool:
    given = dict(parse_qsl(request.target.partition("?")[2])).get("bodySHA256", "")
    return hmac.compare_digest(sha256(request.body.reveal()).hexdigest().encode(), signed_bytes(given))
