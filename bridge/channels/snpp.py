"""Pages over SNPP, the Simple Network Paging Protocol (RFC 1861), levels 1 to 3.

How to set it up: docs/channels/snpp.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Annotated

import structlog
from pydantic import Field

from bridge.channels import snpp_two_way
from bridge.channels.channel import Channel, ChannelType, Surroundings
from bridge.channels.choices import with_choices
from bridge.channels.numbers import normal_number
from bridge.channels.rate import Rate
from bridge.channels.settings import Region, is_one_of
from bridge.channels.snpp_two_way import WISHES, TwoWay
from bridge.channels.tcp import Line, ListenerSettings, may_be_said, serve_lines
from bridge.config.values import SecretRef, one_or_more
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority

SILENT_SECONDS = 60.0  # between two lines
MAX_COMMANDS = 200  # in one connection
MAX_MISTAKES = 10  # likewise
MAX_TEXT = 32 * 1024  # bytes of one message
MAX_RECIPIENTS = 16
SAME_SECONDS = 60  # SNPP has no ids: the same page within this minute is a client that tries again

log = structlog.get_logger(__name__)


class SnppSettings(ListenerSettings):
    """A listener for a paging client. The protocol is not encrypted, so that only near peers should reach it."""

    secrets: Annotated[tuple[SecretRef, ...], one_or_more] = Field(
        default=(), description="The password that LOGI must give, if any; several while it is being rotated."
    )
    region: Region | None = Field(
        default=None, description="The country (US, GB, ...) of numbers that come without a country code."
    )


def build(channel: ChannelId, settings: SnppSettings, around: Surroundings) -> Channel:
    """A channel that listens for SNPP. Raises `SecretUnreadableError`."""
    secrets = tuple(one.read_text() for one in settings.secrets)
    desk = _Desk(channel, secrets, settings.region, around, Rate(settings.per_minute), _minutes(around))

    async def serve() -> None:
        await serve_lines(
            channel, settings, around, partial(_talk, desk), refused=_REFUSED, full=_FULL, late=_LATE
        )

    return Channel(channel, SNPP.name, serve=serve)


SNPP = ChannelType("snpp", SnppSettings, build, (EventKind.PAGE,))


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a conversation needs of the channel."""

    channel: ChannelId
    secrets: tuple[str, ...]
    region: str | None
    around: Surroundings
    rate: Rate
    minute: Callable[[], int]


def _minutes(around: Surroundings) -> Callable[[], int]:
    """Which minute it is, whether or not the clock is set meanwhile: a minute that came again would hide a page."""
    began, then = around.now().timestamp(), monotonic()
    return lambda: int(began + monotonic() - then) // SAME_SECONDS


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a client has said of the page that it is about to send."""

    logged_in: bool
    peer: str = field(default="", repr=False)
    recipients: tuple[str, ...] = ()
    text: str | None = None
    subject: str | None = None
    caller: str | None = None
    priority: Priority | None = None
    hold: str | None = None
    two_way: TwoWay | None = None


_Step = tuple[_Draft, str]  # what is known after a command, and its answer


async def _talk(desk: _Desk, line: Line) -> None:
    """One conversation, from greeting to goodbye."""
    draft = _Draft(logged_in=not desk.secrets, peer=line.source)
    await _say(desk, line, "220 SNPP gateway ready")
    mistakes = 0
    for _ in range(MAX_COMMANDS):
        try:
            said = decoded(await _hear(desk, line))
            if said[:4].upper() == "DATA":
                draft, reply = await _data(desk, draft, line)
            else:
                draft, reply = await _obey(desk, draft, said)
        except asyncio.LimitOverrunError:
            reply = "421 The line is too long, goodbye"
        except TimeoutError:
            reply = "421 Nothing was said for a minute, goodbye"
        mistakes += reply.startswith("5")
        await _say(desk, line, reply)
        if reply.startswith(("221", "421")):
            return
        if mistakes >= MAX_MISTAKES:
            break
    await _say(desk, line, "421 Too many errors or commands, goodbye")


async def _say(desk: _Desk, line: Line, reply: str) -> None:
    reply = may_be_said(desk.channel, desk.around, reply)
    desk.around.tap(desk.channel, ">", Phi(reply.encode()))
    line.writer.write(reply.encode() + b"\r\n")
    await line.writer.drain()


async def _hear(desk: _Desk, line: Line) -> bytes:
    said = await line.hear(SILENT_SECONDS)
    desk.around.tap(desk.channel, "<", Phi(said))
    return said


def decoded(line: bytes) -> str:
    """A line as text, without its end: UTF-8, or what older clients write."""
    line = line.rstrip(b"\r\n")
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


async def _data(desk: _Desk, draft: _Draft, line: Line) -> _Step:
    """A message of several lines, up to a lone full stop."""
    if draft.text is not None:
        return draft, _TWO_MESSAGES
    await _say(desk, line, "354 Begin input; end with <CRLF>.<CRLF>")
    lines: list[str] = []
    size = 0
    while (said := await _hear(desk, line)).rstrip(b"\r\n") != b".":
        size += len(said)
        if size > MAX_TEXT:
            return draft, "421 The message is too long, goodbye"
        # RFC 1861 leaves the escaping to the clients' habit, which is that of SMTP.
        lines.append(decoded(said.removeprefix(b".") if said.startswith(b"..") else said))
    return replace(draft, text="\n".join(lines)), "250 Message accepted"


async def _obey(desk: _Desk, draft: _Draft, line: str) -> _Step:
    command, argument = line[:4].strip().upper(), line.partition(" ")[2].strip()
    if command == "SEND":
        return await _send(desk, draft)
    if command in ("MSTA", "KTAG"):
        return draft, await _tagged(desk, command, argument) if draft.logged_in else "550 Log in first"
    if command == "LOGI":
        return _login(desk, draft, argument)
    if command in _COMMANDS:
        return _COMMANDS[command](draft, argument)
    # A client that asks for a SITE command takes 250 for an answer to it, and crashes.
    return draft, "502 Command not implemented" if command == "SITE" else "500 Command unknown"


async def _tagged(desk: _Desk, command: str, argument: str) -> str:
    answer = snpp_two_way.status if command == "MSTA" else snpp_two_way.forget
    return await answer(desk.around, desk.channel, argument)


def _login(desk: _Desk, draft: _Draft, argument: str) -> _Step:
    password = argument.partition(" ")[2].strip()
    logged_in = not desk.secrets or is_one_of(desk.secrets, password)
    if not logged_in:
        desk.around.count(desk.channel, "login_refused")
    return replace(draft, logged_in=logged_in), "250 Welcome" if logged_in else "550 Login refused"


def _two_way(draft: _Draft, _argument: str) -> _Step:
    if draft.recipients or draft.text is not None:
        return draft, "503 Two-way comes first"
    return replace(draft, two_way=TwoWay()), "250 Two-way accepted"


def _ping(draft: _Draft, argument: str) -> _Step:
    if not argument:
        return draft, "550 Which pager?"
    return draft, "250 Whoever is on call is looked for when a page comes"


def _wish(command: str, draft: _Draft, argument: str) -> _Step:
    if draft.two_way is None:
        return draft, "503 Say 2WAY first"
    wanted, reply = WISHES[command](draft.two_way, argument)
    return replace(draft, two_way=wanted), reply


def _page(draft: _Draft, argument: str) -> _Step:
    recipient = argument.partition(" ")[0]  # a PIN may follow: the peers and the login stand for it
    if not draft.logged_in:
        return draft, "550 Log in first"
    if not recipient:
        return draft, "550 Which pager?"
    if draft.two_way is not None and draft.recipients:
        return draft, "552 A two-way page goes to one pager"
    if len(draft.recipients) >= MAX_RECIPIENTS:
        return draft, "552 Too many pagers for one message"
    return replace(draft, recipients=(*draft.recipients, recipient)), "250 Pager ID accepted"


def _message(draft: _Draft, argument: str) -> _Step:
    if draft.text is not None:
        return draft, _TWO_MESSAGES
    return replace(draft, text=argument), "250 Message accepted"


def _level(draft: _Draft, argument: str) -> _Step:
    """RFC 1861, 4.5.4: 0 is priority, 1 is normal, what is above may take longer."""
    if not re.fullmatch("[0-9]{1,2}", argument):
        return draft, "550 A level is a number"
    level = int(argument)
    priority = Priority.URGENT if level == 0 else Priority.ROUTINE if level > 1 else None
    return replace(draft, priority=priority), "250 Service level accepted"


def _hold(draft: _Draft, argument: str) -> _Step:
    if not re.fullmatch(r"[0-9]{12}( [+-][0-9]{1,4})?", argument):
        return draft, "550 A time is YYMMDDHHMMSS, and its offset from UTC"
    return replace(draft, hold=argument), "250 Noted: the page goes out at once, and tells this time"


_HELP = (
    "214 PAGE MESS DATA SEND RESE LOGI LEVE SUBJ CALL HOLD ALER COVE HELP QUIT "
    "2WAY PING EXPT NOQU ACKR RTYP MCRE MSTA KTAG"
)
_COMMANDS: dict[str, Callable[[_Draft, str], _Step]] = {
    "PAGE": _page,
    "MESS": _message,
    "LEVE": _level,
    "HOLD": _hold,
    "SUBJ": lambda draft, argument: (replace(draft, subject=argument), "250 Subject accepted"),
    "CALL": lambda draft, argument: (replace(draft, caller=argument), "250 Caller ID accepted"),
    "ALER": lambda draft, _: (draft, "250 Whether it rings is up to the clinician's device"),
    "COVE": lambda draft, _: (draft, "250 There is one coverage area"),
    "QUIT": lambda draft, _: (draft, "221 Goodbye"),
    "RESE": lambda draft, _: (_Draft(draft.logged_in, draft.peer), "250 Everything is forgotten"),
    "2WAY": _two_way,
    "PING": _ping,
    **{command: partial(_wish, command) for command in WISHES},
    "HELP": lambda draft, _: (
        draft,
        _HELP,
    ),
}
_TWO_MESSAGES = "503 There is a message already"
_REFUSED = b"421 This address is not among the channel's peers\r\n"
_FULL = b"421 Too many connections, try again\r\n"
_LATE = b"421 The connection took too long, goodbye\r\n"


async def _send(desk: _Desk, draft: _Draft) -> _Step:
    """A page for each pager. A numeric page may come without a message."""
    if not draft.recipients:
        return draft, "503 Which pager?"
    if desk.rate.wait(draft.peer):
        desk.around.count(desk.channel, "too_many_pages")
        return draft, "421 Too many pages, try again in a minute"
    try:
        for recipient in draft.recipients:
            receipt = await desk.around.inbox.accept(_event(desk, draft, recipient))
            outcome = "duplicate" if receipt.duplicate else "accepted"
            desk.around.count(desk.channel, outcome)
            log.info("page_taken", channel=desk.channel, outcome=outcome)
    except StoreUnavailableError:
        desk.around.count(desk.channel, "store_unavailable")
        return draft, "554 The page could not be kept, send it again"
    reply = snpp_two_way.queued(receipt.intake) if draft.two_way is not None else "250 Page sent"
    return _Draft(draft.logged_in, draft.peer), reply


def _event(desk: _Desk, draft: _Draft, recipient: str) -> IntakeEvent:
    said = (recipient, draft.text, draft.subject, draft.caller, draft.priority, draft.hold, draft.two_way)
    written = "\0".join((*map(str, said), str(desk.minute())))
    asked = draft.two_way or TwoWay()
    attributes = {"hold": draft.hold or "", **asked.attributes}
    return IntakeEvent(
        channel=desk.channel,
        key=Phi(sha256(written.encode()).hexdigest()),
        kind=EventKind.PAGE,
        body=Phi(
            with_choices("\n".join(part for part in (draft.subject, draft.text) if part), asked.offered)
        ),
        caller=normal_number(draft.caller, desk.region),
        recipient=Phi(recipient),
        priority=draft.priority,
        attributes={name: Phi(value) for name, value in attributes.items() if value},
    )
