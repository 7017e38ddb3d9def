"""What WCTP's senders are told of their pages: by push to an address of theirs, by poll, and to a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from http import HTTPStatus
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from bridge import __version__
from bridge.channels.xml import named, read_xml, xml_text
from bridge.model.errors import ReportError
from bridge.model.event import IntakeEvent
from bridge.model.phi import Phi, reveal_optional
from bridge.model.report import Answered, Fetches, Report, Reporter, ReportKind, Standing

PUSH_SECONDS = 15.0
MAX_ANSWER = 64 * 1024  # bytes
TEMPORARY = (
    "456"  # the first digits of failures after which trying again can help: access, load, and the like
)
LATEST = "wctp-dtd-v1r3"


def reporter(addresses: Mapping[str, str], pollers: Collection[str]) -> Reporter:
    """Tells each sender what it asked to hear, and what was answered: by push, or when it polls."""

    async def tell(report: Report) -> bool | Fetches:
        sender = _attribute(report.event, "sender")
        asked = _attribute(report.event, "notify_when").split()
        if not (report.kind is ReportKind.ANSWER or report.kind.value in asked):
            return False
        if sender in pollers:
            return Fetches(sender)
        if sender not in addresses:
            return False
        version = _attribute(report.event, "version") or LATEST
        await _post(addresses[sender], wctp_operation(message(report, version), version))
        return True

    return tell


def message(report: Report, version: str) -> str:
    """A report as its sender gets it; the same each time it is told."""
    event = report.event
    about = {
        "responseToMessageID": _attribute(event, "message_id"),
        "responseTimestamp": moment(report.at),
        "respondingToTimestamp": moment(event.occurred_at) if event.occurred_at else "",
    }
    control = {"messageID": report.id, "transactionID": _attribute(event, "transaction_id")}
    to = _attribute(event, "responses_to") or _attribute(event, "sender")
    header = (
        f"<wctp-ResponseHeader{_written(about)}>"
        f"<wctp-Originator{_written({'senderID': reveal_optional(event.recipient) or ''})}/>"
        f"<wctp-MessageControl{_written(control)}/>"
        f"<wctp-Recipient{_written({'recipientID': to})}/></wctp-ResponseHeader>"
    )
    if report.answer is None:
        return f'<wctp-StatusInfo>{header}<wctp-Notification type="{report.kind.upper()}"/></wctp-StatusInfo>'
    return (
        f"<wctp-MessageReply{_of_choice(report.answer, version)}>{header}{_payload(report.answer)}"
        "</wctp-MessageReply>"
    )


def client_messages(standing: Standing, sender: str, recipient: str, version: str) -> str:
    """How far a message has come, and the answers to it, for who asks."""
    # What is told comes from whom the message went to.
    people = (
        f"<wctp-Originator senderID={quoteattr(recipient)}/><wctp-Recipient recipientID={quoteattr(sender)}/>"
    )

    def head(at: datetime) -> str:
        return f'<wctp-ClientResponseHeader responseTimestamp="{moment(at)}">{people}</wctp-ClientResponseHeader>'

    status = (
        f"<wctp-ClientStatusInfo>{head(standing.at)}"
        f'<wctp-Notification type="{standing.progress.upper()}"/></wctp-ClientStatusInfo>'
    )
    answers = [
        f"<wctp-ClientMessageReply{_of_choice(answer, version)}>{head(answer.at)}{_payload(answer)}"
        "</wctp-ClientMessageReply>"
        for answer in standing.answers
    ]
    return "".join(f"<wctp-ClientMessage>{each}</wctp-ClientMessage>" for each in (status, *answers))


def wctp_operation(content: str, version: str) -> str:
    """A document of the protocol."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<wctp-Operation wctpVersion="{version}">{content}</wctp-Operation>\n'
    )


def moment(at: datetime) -> str:
    """A time as WCTP writes it: in UTC, without saying so."""
    return f"{at:%Y-%m-%dT%H:%M:%S}"


def _payload(answer: Answered) -> str:
    said = xml_text(answer.text.reveal())
    return f"<wctp-Payload><wctp-Alphanumeric>{said}</wctp-Alphanumeric></wctp-Payload>"


def _of_choice(answer: Answered, version: str) -> str:
    """Whether one of the choices was taken, which 1.1 has no word for."""
    return "" if answer.choice is None or version.endswith("v1r1") else ' MCRMessageReply="true"'


def _written(attributes: Mapping[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value)


def _attribute(event: IntakeEvent, name: str) -> str:
    return reveal_optional(event.attributes.get(name)) or ""


async def _post(url: str, document: str) -> None:
    """Raises ReportError, which names neither the address nor what was answered: both may hold content."""
    try:
        async with (
            ClientSession(
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=PUSH_SECONDS),
                headers={"Content-Type": "text/xml", "User-Agent": f"nightbell/{__version__}"},
            ) as session,
            session.post(url, data=document.encode(), allow_redirects=False) as response,
        ):
            status = response.status
            said = bytearray()
            async for piece in response.content.iter_chunked(MAX_ANSWER):
                said += piece
                if len(said) > MAX_ANSWER:
                    break
    except TimeoutError:
        why = f"it did not answer within {PUSH_SECONDS:g} seconds"
        raise ReportError(why, retry=True) from None
    except (ClientError, OSError, ValueError) as error:
        why = f"it can't be reached ({type(error).__name__})"
        raise ReportError(why, retry=True) from None
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        why = f"it answers {status}"
        raise ReportError(why, retry=True)
    root = read_xml(Phi(bytes(said)))
    failure = next(named(root, "wctp-Failure"), None) if root is not None else None
    if failure is not None:
        raise refused(failure)


def refused(failure: Element) -> ReportError:
    """What a `wctp-Failure` in answer to a report means."""
    code = failure.get("errorCode", "")[:3]
    why = f"it answers with the failure {code if code.isdecimal() else 'of an unknown kind'}"
    return ReportError(why, retry=not code or code[0] in TEMPORARY)
