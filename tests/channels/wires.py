"""What the tests that walk every channel know of each: its section, and how its source speaks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, quote, urlencode
from xml.sax.saxutils import escape

from multidict import CIMultiDict, MultiDict

from bridge.channels.channel import Request
from bridge.model.phi import Phi
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
    Reply,
)

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
