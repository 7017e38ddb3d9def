"""Pages by mail: a mail server that takes mail for the pagers' addresses, and for nobody else.

How to set it up: docs/channels/smtp.md.
"""

from __future__ import annotations

import asyncio
import html
import inspect
import logging
import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from hashlib import sha256
from typing import Annotated, Any, AnyStr, Self, cast

import structlog
from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.smtp import Envelope, Session
from pydantic import Field, model_validator

from bridge.channels.channel import Channel, ChannelType, Surroundings
from bridge.channels.crowd import Crowd, source_of, turn_away
from bridge.channels.numbers import normal_number
from bridge.channels.rate import Rate
from bridge.channels.settings import Region, is_peer
from bridge.channels.tcp import ListenerSettings, may_be_said
from bridge.config.values import LocalPath, one_or_more
from bridge.model import in_hand
from bridge.model.attachment import MOST, Attachment
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.model.priority import Priority

MAX_MAIL = 5 * 1024 * 1024  # bytes: a voicemail of some minutes is attached
MAX_CONNECTIONS = 64
MAX_OF_ONE = 20  # connections from one address: as many as Postfix makes
MAX_RECIPIENTS = 16
MAX_COMMANDS = 100  # of each kind in one connection
SILENT_SECONDS = 60.0
SESSION_SECONDS = 300.0  # for all of a connection
LINGER_SECONDS = 2.0  # for the last word to be read

log = structlog.get_logger(__name__)


class SmtpSettings(ListenerSettings):
    """A mail server for the pagers' addresses."""

    domains: Annotated[tuple[str, ...], one_or_more, Field(min_length=1)] = Field(
        description="The domains of the pagers' addresses; what stands before the @ is the event's recipient."
    )
    certificate: LocalPath | None = Field(
        default=None, description="The certificate and its chain (PEM), for STARTTLS."
    )
    key: LocalPath | None = Field(default=None, description="The certificate's private key (PEM).")
    require_tls: bool = Field(default=True, description="Whether mail is only taken after STARTTLS.")
    region: Region | None = Field(
        default=None,
        description="The country (US, GB, ...) of callers' numbers that come without a country code.",
    )

    @model_validator(mode="after")
    def _can_encrypt_what_it_requires(self) -> Self:
        if self.require_tls and self.certificate is None:
            raise ValueError("needs a certificate for STARTTLS, or require_tls: false")
        return self


def build(channel: ChannelId, settings: SmtpSettings, around: Surroundings) -> Channel:
    """A channel that listens for mail. Its `serve` raises OSError for a certificate that can't be used, too."""

    async def serve() -> None:
        in_hand.learn(inspect.getsource(aiosmtpd))  # the refusals of the library's own
        # Its log repeats what a sender wrote.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
        crowd = Crowd(MAX_CONNECTIONS, MAX_OF_ONE)
        context = _tls(settings)
        desk = _Desk(channel, settings, around, Rate(settings.per_minute))

        def door() -> asyncio.BaseProtocol:
            return _Door(
                crowd,
                desk,
                data_size_limit=MAX_MAIL,
                enable_SMTPUTF8=True,
                ident="Nightbell",
                tls_context=context,
                require_starttls=settings.require_tls,
                timeout=SILENT_SECONDS,
                command_call_limit=MAX_COMMANDS,
            )

        server = await asyncio.get_running_loop().create_server(door, settings.host, settings.port)
        try:
            async with server:
                log.info("channel_listens", channel=channel, port=settings.port)
                await around.tell(channel, None)
                await server.serve_forever()
        finally:
            for each in list(crowd.here):
                each.make_room()

    return Channel(channel, SMTP.name, serve=serve)


SMTP = ChannelType("smtp", SmtpSettings, build, (EventKind.PAGE,))


def _tls(settings: SmtpSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:
        unusable = (
            f"{settings.certificate} and its key can't be used ({error.strerror or type(error).__name__})"
        )
        raise OSError(error.errno, unusable) from None
    return context


class _Door(aiosmtpd.SMTP):
    """One connection, within the bounds of time and number that the library does not have."""

    def __init__(self, crowd: Crowd, desk: _Desk, **bounds: Any) -> None:
        super().__init__(desk, **bounds)
        self._desk = desk
        self._crowd = crowd
        self._end: asyncio.TimerHandle | None = None
        self.source: str | None = None
        self.since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._end is None and (refused := self._refused(transport)):
            turn_away(transport, refused)
            return
        super().connection_made(transport)  # once more after STARTTLS

    def _refused(self, transport: asyncio.BaseTransport) -> bytes | None:
        """Begin the connection's time, or say why it is not let in."""
        loop, peer = asyncio.get_running_loop(), str((transport.get_extra_info("peername") or ("",))[0])
        self.source, self.since = source_of(peer), loop.time()
        if not is_peer(peer, self._desk.settings.peers):
            outcome, said = "unknown_peer", _STRANGER
        elif not self._crowd.admit(self):
            outcome, said = "too_many_connections", _FULL
        else:
            self._end = loop.call_later(SESSION_SECONDS, self._leave, _LATE)
            return None
        self._desk.around.count(self._desk.channel, outcome)
        log.info("connection_refused", channel=self._desk.channel, outcome=outcome)
        return said

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.leave(self)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._desk.around.tap(self._desk.channel, "<", Phi(data))
        super().data_received(data)

    async def push(self, status: AnyStr) -> None:
        """Say something. The library would repeat a command that it does not know."""
        desk, said = self._desk, cast("str | bytes", status)
        text = said if isinstance(said, str) else said.decode(errors="replace")
        text = _UNKNOWN if text.startswith(_REPEATS) else may_be_said(desk.channel, desk.around, text)
        desk.around.tap(desk.channel, ">", Phi(text.encode()))
        await super().push(text)

    async def smtp_VRFY(self, _: str) -> None:  # noqa: N802
        """Who may be paged is told to nobody, and no address repeated."""
        await self.push("252 2.5.2 Send the mail: its answer says whether it is taken")

    def make_room(self) -> None:
        """End the connection for another's sake."""
        self._leave(_FULL)

    def _timeout_cb(self) -> None:  # the library's own says nothing
        self._leave(_LATE)

    def _leave(self, said: bytes) -> None:
        if isinstance(self.transport, asyncio.WriteTransport) and not self.transport.is_closing():
            self.transport.write(said)
            self.transport.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)


_STRANGER = b"554 5.7.1 This address is not among the channel's peers\r\n"
_FULL = b"421 4.7.0 Too many connections, try again\r\n"
_LATE = b"421 4.4.2 The connection took too long, try again\r\n"
_REPEATS = ('500 Error: command "', "500 Error: (")
_UNKNOWN = "500 5.5.1 Command unknown"


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the library asks at each command; the names are its own."""

    channel: ChannelId
    settings: SmtpSettings
    around: Surroundings
    rate: Rate

    async def handle_MAIL(  # noqa: N802
        self, _: aiosmtpd.SMTP, session: Session, envelope: Envelope, address: str, __: list[str]
    ) -> str:
        """Who sends: only so often."""
        if self.rate.wait(source_of(session.peer[0] if session.peer else "")):
            self.around.count(self.channel, "too_many_mails")
            return "450 4.7.1 Too many mails, try again in a minute"
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _: aiosmtpd.SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        """To whom: an address in one of the domains."""
        name, _at, domain = address.rpartition("@")
        if not name or domain.lower() not in [each.lower() for each in self.settings.domains]:
            return "550 5.7.1 No mail is taken for this domain"
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, door: _Door, _: Session, envelope: Envelope) -> str:  # noqa: N802
        """The mail itself: an event for each recipient, durable before the answer."""
        door.since = None
        try:
            return await self._taken(envelope)
        finally:
            door.since = asyncio.get_running_loop().time()

    async def _taken(self, envelope: Envelope) -> str:
        content = Phi(envelope.original_content or b"")
        mail = await asyncio.to_thread(read_mail, content)
        try:
            if mail is None:
                await self.around.inbox.keep_unreadable(self.channel, content, "a mail could not be read")
                self.around.count(self.channel, "unreadable_but_kept")
                return "554 5.6.0 The mail can't be read; it was kept"
            for recipient in dict.fromkeys(envelope.rcpt_tos):
                receipt = await self.around.inbox.accept(
                    _event(self.channel, mail, recipient, self.settings.region)
                )
                outcome = "duplicate" if receipt.duplicate else "accepted"
                self.around.count(self.channel, outcome)
                log.info("mail_taken", channel=self.channel, outcome=outcome)
        except StoreUnavailableError:
            self.around.count(self.channel, "store_unavailable")
            return "451 4.3.0 The mail could not be kept, send it again"
        return "250 2.0.0 Paged"

    async def handle_exception(self, error: Exception) -> str:
        """Log where it failed, without the error's own words."""
        log.error("mail_failed", channel=self.channel, error=type(error).__name__)
        return "451 4.3.0 The bridge failed at this mail; its log says why"


@dataclass(frozen=True, slots=True)
class Mail:
    """What is read of a mail."""

    key: str = field(repr=False)
    sender: str = field(repr=False)
    sender_name: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    attachments: tuple[Attachment, ...]
    urgent: bool
    sent_at: datetime | None
    voicemail: Voicemail | None = None


@dataclass(frozen=True, slots=True)
class Voicemail:
    """What Asterisk's mail about a voicemail says besides."""

    caller: str = field(repr=False)
    caller_name: str = field(repr=False)
    empty: bool


def read_mail(content: Phi[bytes]) -> Mail | None:
    """Read a mail; None if even its headers are beyond reading."""
    try:
        message = message_from_bytes(content.reveal(), policy=policy.default)
        assert isinstance(message, EmailMessage)  # noqa: S101 - the policy's own
        return _read(message, content)
    except Exception:  # noqa: BLE001 - the standard library fails at broken headers in many ways
        return None


def _read(message: EmailMessage, content: Phi[bytes]) -> Mail:
    body = message.get_body(("plain", "html"))
    text = _words(body) if isinstance(body, EmailMessage) else ""
    attachments = tuple(
        _attachment(part)
        for part in message.walk()
        if not part.is_multipart()
        and part is not body
        and (part.is_attachment() or part.get_content_maintype() != "text")
    )
    name, address = parseaddr(_header(message, "From"))
    importance = f"{_header(message, 'Importance')} {_header(message, 'X-Priority')}".strip().lower()
    return Mail(
        key=_header(message, "Message-ID") or sha256(content.reveal()).hexdigest(),
        sender=address,
        sender_name=name,
        subject=_header(message, "Subject"),
        text=text,
        attachments=attachments,
        urgent=importance.startswith(("high", "1", "2")),
        sent_at=_moment(_header(message, "Date")),
        voicemail=_voicemail(message, text, attachments),
    )


def _attachment(part: EmailMessage) -> Attachment:
    content = part.get_payload(decode=True)
    kind = part.get_content_type()
    return Attachment(
        "audio/ogg" if kind == "application/ogg" else kind,  # as Asterisk calls it
        name=protect_optional(part.get_filename()),
        content=Phi(content if isinstance(content, bytes) else b""),
    )


def _voicemail(message: EmailMessage, text: str, attachments: tuple[Attachment, ...]) -> Voicemail | None:
    """What Asterisk says in the headers of its own; of who withholds the number it says nothing there.

    It cuts a name at its first accent, but not in the text.
    """
    if not _header(message, "Message-ID").startswith("<Asterisk-") and "X-Asterisk-CallerID" not in message:
        return None
    name = _header(message, "X-Asterisk-CallerIDName")
    recordings = [part.content for part in attachments if part.type.startswith("audio/") and part.content]
    empty = all(map(_is_empty, recordings)) if recordings else " 0:00 " in text
    return Voicemail(_header(message, "X-Asterisk-CallerID"), name if name in text else "", empty)


def _is_empty(recording: Phi[bytes]) -> bool:
    """Whether a WAV file has no samples: Asterisk keeps such a message of who hung up at the beep."""
    found = re.search(rb"\ARIFF....WAVE.*?data(....)", recording.reveal()[:200], re.DOTALL)
    return found is not None and found[1] == bytes(4)


def _header(message: EmailMessage, name: str) -> str:
    return str(message.get(name, "")).encode(errors="surrogateescape").decode(errors="replace").strip()


def _words(body: EmailMessage) -> str:
    """The text of a part. UTF-8 comes first: Asterisk writes it under the label of ISO-8859-1."""
    raw = body.get_payload(decode=True)
    data = raw if isinstance(raw, bytes) else b""
    text = _decoded(data, body.get_content_charset() or "utf-8").replace("\r\n", "\n")
    if body.get_content_subtype() == "html":
        text = html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(style|script)\b.*?</\1>", " ", text)))
        text = re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[ \t]+", " ", text))
    return text.strip()


def _decoded(data: bytes, charset: str) -> str:
    # UTF-16 can be read as UTF-8, too, with a NUL beside each letter. Punycode takes the square of its length in time.
    wide = charset.lower().startswith(("utf-16", "utf_16", "utf16", "utf-32", "utf_32", "utf32"))
    known = () if charset.lower() == "punycode" else (charset,)
    for each in (*known, "utf-8") if wide else ("utf-8", *known):
        try:
            return data.decode(each)
        except (UnicodeError, LookupError):
            continue
    return data.decode("cp1252", errors="replace")


def _moment(written: str) -> datetime | None:
    try:
        return parsedate_to_datetime(written).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None


def _event(channel: ChannelId, mail: Mail, recipient: str, region: str | None) -> IntakeEvent:
    count = len(mail.attachments)
    said = {"sender": mail.sender, "media_count": str(count) if count else ""}
    left = mail.voicemail
    kind, attachments = EventKind.PAGE, mail.attachments[:MOST]
    if left is not None:
        kind = EventKind.MISSED_CALL if left.empty else EventKind.VOICEMAIL
        attachments = () if left.empty else attachments
    return IntakeEvent(
        channel=channel,
        key=Phi(f"{mail.key} {recipient}"),
        kind=kind,
        body=Phi("\n".join(part for part in (mail.subject, mail.text) if part)),
        caller=normal_number(left.caller, region) if left is not None else None,
        caller_name=protect_optional(mail.sender_name if left is None else left.caller_name),
        recipient=Phi(recipient.rpartition("@")[0].lower()),
        priority=Priority.URGENT if mail.urgent else None,
        occurred_at=mail.sent_at,
        attributes={name: Phi(value) for name, value in said.items() if value},
        attachments=attachments,
    )
