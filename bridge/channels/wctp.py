"""Pages over WCTP, the Wireless Communications Transfer Protocol, 1.0 to 1.3: XML by HTTP.

How to set it up, and what of it is taken: docs/channels/wctp.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Self
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from pydantic import Field, model_validator

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
)
from bridge.channels.choices import MOST, Choice, answer_attributes, with_choices
from bridge.channels.settings import Secrets, is_one_of
from bridge.channels.wctp_poll import POLL_RESPONSE, poll_response
from bridge.channels.wctp_report import client_messages, reporter, wctp_operation
from bridge.channels.xml import local_name, named, read_xml
from bridge.config.values import Section, Setting, one_or_more
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.model.priority import Priority

PRIORITIES = {"HIGH": Priority.URGENT, "LOW": Priority.ROUTINE}
NOTIFICATIONS = ("notifyWhenQueued", "notifyWhenDelivered", "notifyWhenRead")


class WctpSettings(Section):
    """A door for systems that page over WCTP, such as an answering service's."""

    senders: Mapping[str, Secrets] = Field(
        min_length=1,
        description="Who may page: each senderID with its securityCode, or several while it is being rotated.",
    )
    push: Mapping[str, Setting] = Field(
        default={},
        description="Where a senderID is told what it asked to hear of its pages, and what was answered to them.",
    )
    poll: Annotated[tuple[Setting, ...], one_or_more] = Field(
        default=(),
        description="The senderIDs that fetch it instead, by wctp-PollForMessages: those that can't be reached.",
    )

    @model_validator(mode="after")
    def _tell_whom(self) -> Self:
        for key, names in (("push", self.push), ("poll", self.poll)):
            if unknown := [sender for sender in names if sender not in self.senders]:
                message = f'{key} names "{unknown[0]}", who is not among the senders'
                raise ValueError(message)
        if both := [sender for sender in self.poll if sender in self.push]:
            message = (
                f'"{both[0]}" is told by push, and would be given the same by poll: name it in one of them'
            )
            raise ValueError(message)
        for sender, url in self.push.items():
            if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
                message = f"push to {sender} must be an address, such as https://desk.example/wctp"
                raise ValueError(message)
        return self


def build(channel: ChannelId, settings: WctpSettings, around: Surroundings) -> Channel:
    """A channel that takes WCTP. Raises `SecretUnreadableError`."""
    path = intake_path(channel)
    route = Route("POST", path, _handler(channel, settings, around))
    told = settings.push or settings.poll
    report = reporter(settings.push, settings.poll) if told else None
    return Channel(channel, WCTP.name, (route,), report=report)


def sample(settings: WctpSettings, probe: Probe) -> Request:
    """A page as an answering service would submit it."""
    sender, codes = next(iter(settings.senders.items()))
    code = codes[0].read_text()
    submitted = (
        f"<wctp-SubmitRequest><wctp-SubmitHeader submitTimestamp={quoteattr(f'{probe.at:%Y-%m-%dT%H:%M:%S}')}>"
        f"<wctp-Originator senderID={quoteattr(sender)} securityCode={quoteattr(code)}/>"
        f"<wctp-MessageControl messageID={quoteattr(probe.key)}/>"
        f"<wctp-Recipient recipientID={quoteattr(probe.recipient)}/></wctp-SubmitHeader>"
        f"<wctp-Payload><wctp-Alphanumeric>{escape(probe.text)}</wctp-Alphanumeric></wctp-Payload>"
        "</wctp-SubmitRequest>"
    )
    return probe.request(wctp_operation(submitted, "wctp-dtd-v1r3"), {"Content-Type": "text/xml"})


WCTP = ChannelType("wctp", WctpSettings, build, (EventKind.PAGE,), sample)


def _handler(channel: ChannelId, settings: WctpSettings, around: Surroundings) -> Handler:
    senders = {name: [one.read_text() for one in codes] for name, codes in settings.senders.items()}

    async def polled(poll: Element, version: str) -> Answer:
        poller = poll.get("pollerID", "")
        refused = _refused(senders, poller, poll)
        if refused is None and poller not in settings.poll:
            refused = (400, "Polling is not set up for this pollerID")
        if refused is not None:
            return _failure(*refused, version, answer=POLL_RESPONSE)
        return await _polled(around, channel, poller, poll, version)

    async def take(request: Request) -> Answer:
        root = read_xml(request.body)
        if root is None:
            return _failure(301, "Cannot parse input", outcome="malformed_xml")
        version = _version(root)
        operation = next(iter(root), Element(""))
        name = local_name(operation)
        if name in _HEADERS:
            originator = _first(operation, "wctp-Originator")
            if refused := _refused(senders, originator.get("senderID", ""), originator):
                return _failure(*refused, version)
            return await _submitted(around, channel, request, operation, version)
        if name == "wctp-PollForMessages":
            return await polled(operation, version)
        if name == "wctp-ClientQuery":
            return await _status(around, channel, operation, version)
        return _of_ours(name, around.now(), version)

    return take


def _refused(senders: Mapping[str, list[str]], name: str, given: Element) -> tuple[int, str] | None:
    """Why this is not who it says, with the protocol's code for it."""
    if name not in senders:
        return 401, "Invalid ID"
    if not is_one_of(senders[name], given.get("securityCode", "")):
        return 402, "Invalid security code"
    return None


# The operations that page, each with its header.
_HEADERS = {"wctp-SubmitRequest": "wctp-SubmitHeader", "wctp-MessageReply": "wctp-ResponseHeader"}


async def _submitted(
    around: Surroundings, channel: ChannelId, request: Request, operation: Element, version: str
) -> Answer:
    event = _event(channel, operation, version)
    try:
        if event is None:
            await around.inbox.keep_unreadable(channel, request.body, "a WCTP message lacks what it needs")
            text = "messageID, recipientID and a payload are needed"
            return _failure(302, text, version, outcome="unreadable_but_kept")
        receipt = await around.inbox.accept(event)
    except StoreUnavailableError:
        return _failure(600, "Try again later", version, outcome="store_unavailable")
    outcome = "duplicate" if receipt.duplicate else "accepted"
    success = (
        f'<wctp-Success successCode="200" successText="Message accepted">{receipt.intake}</wctp-Success>'
    )
    return Answer(outcome, 200, _document("wctp-Confirmation", success, version), "text/xml")


def _event(channel: ChannelId, operation: Element, version: str) -> IntakeEvent | None:
    """The page that an operation asks for, or None if it lacks what a page needs.

    Real clients put the header's elements in any order, so that each is looked for wherever it stands.
    """
    sender = _first(operation, "wctp-Originator").get("senderID", "")
    control = _first(operation, "wctp-MessageControl")
    recipient = _first(operation, "wctp-Recipient").get("recipientID", "")
    message = control.get("messageID", "")
    payload = next(named(operation, "wctp-Payload"), None)
    if not message or not recipient or payload is None:
        return None
    header = _first(operation, _HEADERS[local_name(operation)])
    choices = _choices(payload)
    wanted = [name for name in NOTIFICATIONS if control.get(name, "").lower() == "true"]
    said = {
        "sender": sender,
        "message_id": message,
        "in_reply_to": header.get("responseToMessageID"),
        "transaction_id": control.get("transactionID"),
        "responses_to": control.get("sendResponsesToID"),
        "version": version,
        "notify_when": " ".join(name.removeprefix("notifyWhen").lower() for name in wanted),
        "data": _text(payload, "wctp-TransparentData"),
        **answer_attributes(choices, text=control.get("allowResponse", "").lower() != "false"),
    }
    return IntakeEvent(
        channel=channel,
        key=Phi(json.dumps([sender, message])),
        kind=EventKind.PAGE,
        body=Phi(_body(payload)),
        recipient=Phi(recipient),
        priority=PRIORITIES.get(control.get("deliveryPriority", "").upper()),
        occurred_at=_moment(header.get("submitTimestamp") or header.get("responseTimestamp") or ""),
        attributes={name: Phi(value) for name, value in said.items() if value},
    )


def _body(payload: Element) -> str:
    text = _text(payload, "wctp-Alphanumeric") or _text(payload, "wctp-MessageText")
    return with_choices(text, _choices(payload))


def _choices(payload: Element) -> list[Choice]:
    """What a message offers as answers: each as it is shown, and as its sender is told it."""
    found = []
    for each in payload.iter():
        if local_name(each) == "wctp-Choice":
            shown = " ".join(_said(each).split())
            found.append((shown, shown))
        elif local_name(each) == "wctp-ChoicePair":
            names = ("wctp-SendChoice", "wctp-ReplyChoice")
            shown, told = (" ".join(_text(each, name).split()) for name in names)
            found.append((shown, told or shown))
    return [pair for pair in found if pair[0]][:MOST]


def _text(payload: Element, name: str) -> str:
    return "\n".join(_said(each) for each in named(payload, name))


def _said(element: Element) -> str:
    return "".join(element.itertext()).strip()


def _first(element: Element, name: str) -> Element:
    """The first of this name, or an empty one."""
    return next(named(element, name), Element(name))


def _moment(written: str) -> datetime | None:
    """A time as WCTP writes it: in UTC, though it does not say so."""
    try:
        moment = datetime.fromisoformat(written)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


async def _polled(
    around: Surroundings, channel: ChannelId, poller: str, poll: Element, version: str
) -> Answer:
    try:
        told = await poll_response(around, channel, poller, poll, version)
    except StoreUnavailableError:
        text, outcome = "Try again later", "store_unavailable"
        return _failure(600, text, version, outcome=outcome, answer=POLL_RESPONSE)
    return Answer("answered", 200, wctp_operation(told, version), "text/xml")


async def _status(around: Surroundings, channel: ChannelId, query: Element, version: str) -> Answer:
    """How far a message has come, and what was answered.

    Its tracking number is the id in its confirmation, which nobody can guess.
    """
    try:
        standing = await around.standing(channel, IntakeId(query.get("trackingNumber", "")))
    except StoreUnavailableError:
        return _failure(600, "Try again later", version, outcome="store_unavailable")
    told = "<wctp-NoMessages/>"
    if standing is not None:
        sender, recipient = (query.get(name, "") for name in ("senderID", "recipientID"))
        told = client_messages(standing, sender, recipient, version)
    return Answer("answered", 200, _document("wctp-ClientQueryResponse", told, version), "text/xml")


def _of_ours(name: str, now: datetime, version: str) -> Answer:
    """The answer to what is of nobody's pages."""
    if name != "wctp-VersionQuery":
        return _failure(300, "Operation not supported", version)
    return Answer("answered", 200, _version_response(now), "text/xml")


def _version_response(now: datetime) -> str:
    supported = "".join(
        f'<wctp-DTDSupport dtdName="wctp-dtd-v1r{minor}" supportType="Supported"/>' for minor in range(1, 4)
    )
    said = f'<wctp-VersionResponse responder="nightbell" dateTimeOfRsp="{now:%Y-%m-%dT%H:%M:%S}">'
    return wctp_operation(f"{said}{supported}</wctp-VersionResponse>", "wctp-dtd-v1r3")


def _version(root: Element) -> str:
    """The version to answer in: the sender's own, however it is written (1.3, WCTP-DTD-V1R3)."""
    minor = re.search(r"1[.r]([1-3])", root.get("wctpVersion", "").lower())
    return f"wctp-dtd-v1r{minor[1] if minor else 3}"


def _failure(
    code: int,
    text: str,
    version: str = "wctp-dtd-v1r3",
    *,
    outcome: str | None = None,
    answer: str = "wctp-Confirmation",
) -> Answer:
    """A refusal in the protocol's own words. They come with 200: many clients read no other answer."""
    failure = f'<wctp-Failure errorCode="{code}" errorText="{escape(text)}">{escape(text)}</wctp-Failure>'
    return Answer(
        outcome or f"refused_{code}", 200, _document(answer, failure, version), "text/xml", refused=True
    )


def _document(answer: str, content: str, version: str) -> str:
    return wctp_operation(f"<{answer}>{content}</{answer}>", version)
