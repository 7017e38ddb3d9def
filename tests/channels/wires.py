"""What the tests that walk every channel know of each: its section, and how its source speaks."""

from __future__ import annotations

import asyncio
import json
import re
import smtplib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email import policy
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode
from xml.sax.saxutils import escape

from multidict import CIMultiDict, MultiDict

from bridge.channels import CHANNEL_TYPES
from bridge.channels.channel import Request
from bridge.channels.tcp import ListenerSettings
from bridge.model.phi import Phi
from testbed.process import free_port
from tests.channels.pbx import Pbx, pbx
from tests.channels.signers import (
    KANNEL_SECRET,
    WCTP_CODE,
    plivo_headers,
    telnyx_headers,
    twilio_headers,
    vonage_headers,
    webhook_headers,
)
from tests.channels.wire import (
    ASTERISK,
    KANNEL,
    PLIVO,
    SMTP,
    SNPP,
    TELNYX,
    TWILIO,
    VONAGE,
    WCTP,
    WEBHOOK,
    RememberingInbox,
    Reply,
    opened,
    reachable,
)

# What the tests that walk every channel need to know of each. In an event, everything that a person wrote is a canary.
CANARY = "Kanarienvogel"
MINUTES = timedelta(minutes=5)


@dataclass(frozen=True)
class Wire:
    """A channel over HTTP: its section, and how its source makes an authentic request of what it has to say.

    `event` is something that it says, `nonsense` something that is no event; `spoken` is what it says of a text and of
    who sent it. `clock` is how old a signature may be, and how far ahead of the bridge's clock; None for a source
    that signs no time. `status` reads an answer's HTTP status, or what the source's own protocol has in its place.
    """

    section: str
    signed: Callable[[str], Request]
    event: str
    spoken: Callable[[str, str], str]
    clock: tuple[timedelta, timedelta] | None
    names_callers: bool = True
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
        spoken=lambda text, caller: urlencode(
            {"id": "1", "from": caller, "to": "1", "text": text, "charset": "UTF-8"}
        ),
        clock=None,
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
        spoken=lambda text, caller: urlencode({"MessageUUID": "1", "From": caller, "To": "1", "Text": text}),
        clock=None,
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
        spoken=lambda text, caller: json.dumps(
            {
                "data": {
                    "id": "1",
                    "event_type": "message.received",
                    "payload": {"from": {"phone_number": caller}, "text": text},
                }
            }
        ),
        clock=(MINUTES, MINUTES),
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
        spoken=lambda text, caller: urlencode({"MessageSid": "1", "From": caller, "To": "1", "Body": text}),
        clock=None,
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
        spoken=lambda text, caller: json.dumps(
            {"message_uuid": "1", "from": caller, "to": "1", "text": text}
        ),
        clock=(timedelta(days=1), MINUTES),
    ),
    "wctp": Wire(
        WCTP,
        _wctp_request,
        f'{WCTP_HEAD}<wctp-MessageControl messageID="id-{CANARY}" transactionID="{CANARY}" '
        f'sendResponsesToID="{CANARY}"/><wctp-Recipient recipientID="{CANARY}"/>'
        f"<wctp-Payload><wctp-MCR><wctp-MessageText>{CANARY}</wctp-MessageText>"
        f"<wctp-Choice>{CANARY}</wctp-Choice></wctp-MCR></wctp-Payload>{WCTP_TAIL}",
        spoken=lambda text, _: (
            f'{WCTP_HEAD}<wctp-MessageControl messageID="1"/><wctp-Recipient recipientID="1"/>'
            f"<wctp-Payload><wctp-Alphanumeric>{escape(text)}</wctp-Alphanumeric></wctp-Payload>{WCTP_TAIL}"
        ),
        clock=None,
        names_callers=False,
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
        spoken=lambda text, caller: json.dumps({"kind": "page", "body": text, "caller": {"number": caller}}),
        clock=(MINUTES, MINUTES),
    ),
}


@dataclass(frozen=True)
class Talk:
    """A channel that is no HTTP: its section, and how its source says a text and who sent it, again and again alike.

    `say` talks on the port that stands in the section as PORT: it connects there, or listens until it is cancelled.
    """

    section: str
    say: Callable[[int, str, str], Coroutine[None, None, None]]


async def _page_by_snpp(port: int, text: str, caller: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for line in ("PAGE 1", f"CALL {caller}", "DATA", text, ".", "SEND", "QUIT"):
        writer.write(f"{line}\r\n".encode())
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def _page_by_mail(port: int, text: str, caller: str) -> None:
    """A mail as Asterisk writes them: no other names a number."""
    mail = EmailMessage()
    mail["Message-ID"], mail["X-Asterisk-CallerID"] = "<1@call.example>", caller
    mail.set_content(text)

    def send() -> None:
        with suppress(smtplib.SMTPDataError), smtplib.SMTP("127.0.0.1", port, timeout=10) as connection:
            connection.sendmail("pbx@call.example", ["1@pager.example"], mail.as_bytes(policy=policy.SMTP))

    await asyncio.to_thread(send)


async def _call_by_ami(port: int, text: str, caller: str) -> None:
    """A call in whose dialplan stands UserEvent(Nightbell,Body: ...)."""
    facts = (
        f"Event: Newchannel\r\nUniqueid: 1\r\nLinkedid: 1\r\nCallerIDNum: {caller}",
        f"Event: UserEvent\r\nUserEvent: Nightbell\r\nUniqueid: 1\r\nLinkedid: 1\r\nBody: {text}",
        "Event: Hangup\r\nUniqueid: 1\r\nLinkedid: 1",
    )
    async with pbx(Pbx(port=port)) as made:
        await made.connected.wait()
        made.writers[0].write("".join(f"{each}\r\n\r\n" for each in facts).encode())
        await asyncio.Event().wait()


async def outcomes(
    name: str, inbox: RememberingInbox, text: str, caller: str, *, times: int = 1, **around: Any
) -> list[str]:
    """What becomes of a text when a channel's source says it so many times, in the words of metrics."""
    found: list[str] = []
    if name in WIRES:
        wire = WIRES[name]
        [take, *_] = opened(wire.section, inbox, **around).routes
        return [(await take.handle(wire.signed(wire.spoken(text, caller)))).outcome for _ in range(times)]
    port, talk = free_port(), TALKS[name]
    around.setdefault("count", lambda _, outcome: found.append(outcome))
    channel = opened(talk.section.replace("PORT", str(port)), inbox, **around)
    assert channel.serve is not None
    listens = issubclass(CHANNEL_TYPES[name].settings, ListenerSettings)
    async with asyncio.timeout(20):
        serving = asyncio.ensure_future(channel.serve())
        if listens:
            await reachable(port)
        for number in range(times):
            saying = asyncio.ensure_future(talk.say(port, text, caller))
            while len(found) <= number and not saying.done():
                await asyncio.sleep(0.005)
            await (saying if listens else _ended(saying))
        await _ended(serving)
    return found


async def _ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


TALKS = {
    "asterisk": Talk(ASTERISK, _call_by_ami),
    "smtp": Talk(SMTP, _page_by_mail),
    "snpp": Talk(SNPP, _page_by_snpp),
}
_PORTS = {"asterisk": "5038", "smtp": "25", "snpp": "444"}
SECTIONS = {
    **{name: each.section for name, each in WIRES.items()},
    **{name: each.section.replace("PORT", _PORTS.get(name, "1")) for name, each in TALKS.items()},
}

# Traffic that each source's own programs made, in `captures/`, for the channel's tests; or why there is none.
CAPTURED = {
    "asterisk": "asterisk",
    "kannel": "kannel_requests.jsonl",
    "plivo": "Nobody here has an account; its own SDK signs, and its documentation names the fields.",
    "smtp": "voicemail_mail",
    "snpp": "snpp_dialogs.txt",
    "telnyx": "telnyx_vonage_standard.json",
    "twilio": "twilio_signed_requests.json",
    "vonage": "telnyx_vonage_standard.json",
    "wctp": "php_wctp_posts.jsonl",
    "webhook": "It is the bridge's own format; the specification's library signs, and its published example is taken.",
}
