"""Calls of an Asterisk, over its manager interface (AMI): one page for each call that nobody took.

How to set it up: docs/channels/asterisk.md. What becomes of a call: `bridge.channels.calls`.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Literal, Self

import structlog
from pydantic import Field, model_validator

from bridge.channels.ami import (
    AmiRefusedError,
    Message,
    connected,
    log_in,
    parse_message,
    read_block,
    write_action,
)
from bridge.channels.asterisk_events import Events, call_of
from bridge.channels.asterisk_spool import Spool
from bridge.channels.calls import Board, Call, announced, is_announced, number
from bridge.channels.cdr import CdrSettings, began_at, open_records
from bridge.channels.channel import Channel, ChannelType, Recount, Surroundings
from bridge.channels.settings import Region
from bridge.config.values import LocalPath, NumberSetting, SecretRef, Section, Setting
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

QUIET_SECONDS = 30.0  # of silence before Asterisk is asked whether it is there; as long again for its answer
FIRST_PAUSE = 1.0  # seconds before another try; doubled up to the longest
LONGEST_PAUSE = 60.0
STEADY_SECONDS = 60.0  # a connection that lasted so long was a good one
FLAPPING = 2  # so many that did not, one after the other, are one trouble

# How a message came that no call is known to have left.
AWAY = "Left while the connection to Asterisk was away"
PUT = "Put into the mailbox by no call from outside"
SKEW = timedelta(minutes=5)
_CLOCKS = "its clock and this machine's are more than 5 minutes apart: see to both time services (NTP)"

log = structlog.get_logger(__name__)


class AsteriskSettings(Section):
    """A connection to an Asterisk's manager interface."""

    host: Setting = Field(description="Where Asterisk is.")
    port: NumberSetting = Field(
        default=5038, description="The port of its manager interface; with TLS mostly 5039."
    )
    tls: bool = Field(
        default=False, description="Whether the interface is encrypted (tlsenable in manager.conf)."
    )
    certificate: LocalPath | None = Field(
        default=None,
        description="The certificate to trust (PEM), if it is one that no authority has signed. Its name must fit.",
    )
    username: Setting = Field(description="The user in manager.conf.")
    secret: SecretRef = Field(description="The secret of that user.")
    login: Literal["md5", "plain"] = Field(
        default="md5",
        description="How to log in: md5 does not send the secret itself; plain is for TLS alone.",
    )
    contexts: tuple[str, ...] = Field(
        default=(),
        description="The dialplan's contexts in which calls from outside begin; all, if left out.",
    )
    region: Region | None = Field(
        default=None, description="The country (US, GB, ...) of numbers that come without a country code."
    )
    cdr: CdrSettings | None = Field(
        default=None,
        description="Asterisk's call detail records, by which calls are found that the connection could not tell of.",
    )
    spool: LocalPath | None = Field(
        default=None,
        description="Where voicemail lies as the bridge sees it, such as /var/spool/asterisk/voicemail.",
    )
    delete_recordings: bool = Field(
        default=False, description="Whether recordings are deleted there, once they are in the rooms."
    )

    @model_validator(mode="after")
    def _bounds_records_as_calls(self) -> Self:
        if self.contexts and self.cdr is not None and not self.cdr.contexts:
            raise ValueError(
                "bounds its contexts, so that cdr needs contexts, too: records of other calls count"
            )
        return self


def build(channel: ChannelId, settings: AsteriskSettings, around: Surroundings) -> Channel:
    """A channel that listens to Asterisk. Raises `SecretUnreadableError`."""
    spool = Spool(settings.spool) if settings.spool is not None else None
    events = Events(channel, settings.region, spool)
    line = _Line(channel, settings, settings.secret.read_text(), around, events)
    source = spool.media(remove=settings.delete_recordings) if spool is not None else None
    return Channel(channel, ASTERISK.name, serve=line.serve, recount=_recount(settings, events), media=source)


def _recount(settings: AsteriskSettings, events: Events) -> Recount | None:
    if settings.cdr is None:
        return None
    recorded_calls = open_records(settings.cdr)

    async def recount(since: datetime, until: datetime) -> list[IntakeEvent]:
        calls = [call_of(each) for each in await recorded_calls(since, until)]
        return [await events.of_ended(call) for call in calls if call.kind is not None]

    return recount


ASTERISK = ChannelType("asterisk", AsteriskSettings, build, (EventKind.PAGE, EventKind.VOICEMAIL))


@asynccontextmanager
async def logged_in(
    settings: AsteriskSettings, secret: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that hears events. Raises as `ami.connected` and `ami.log_in`."""
    try:
        tls = ssl.create_default_context(cafile=settings.certificate) if settings.tls else None
    except OSError as error:
        why = error.strerror or type(error).__name__
        message = f"{settings.certificate} is no certificate that can be used ({why})"
        raise AmiRefusedError(message) from None
    async with connected(settings.host, settings.port, tls) as (reader, writer):
        await log_in(reader, writer, settings.username, secret, md5_login=settings.login == "md5")
        yield reader, writer


@dataclass(slots=True)
class _Line:
    """The connection, over all its interruptions."""

    channel: ChannelId
    settings: AsteriskSettings
    secret: str = field(repr=False)
    around: Surroundings
    events: Events
    board: Board = field(default_factory=Board)
    trouble: str | None = "it has not connected yet"
    noted: dict[str, int] = field(default_factory=dict)  # the mailboxes' counts that outlive the process
    heard: bool = False  # whether the current connection came as far as the login
    began: float = 0.0  # when it was tried
    drops: int = 0  # of connections, one after the other, that came so far and did not last
    denied: str | None = None  # what the current one may not ask

    async def serve(self) -> None:
        """Stay connected. What goes wrong is told, and tried again ever less often."""
        pause = FIRST_PAUSE / 2
        while True:
            self.heard, self.denied, self.began = False, None, monotonic()
            try:
                await self._session()
                trouble = "Asterisk ended the connection"
            except AmiRefusedError as error:
                trouble = str(error)
            except StoreUnavailableError:
                trouble = "the database is away"
            except TimeoutError:
                trouble = "Asterisk does not answer"
            except asyncio.IncompleteReadError:
                trouble = "Asterisk closed the connection"
            except asyncio.LimitOverrunError:
                trouble = "what answers does not speak AMI"
            except OSError as error:
                trouble = f"Asterisk can't be reached ({type(error).__name__})"
            except Exception as error:  # noqa: BLE001 - the other channels go on
                log.error(  # noqa: TRY400 - without the error's own words
                    "ami_failed", channel=self.channel, error=type(error).__name__, at=_places(error)
                )
                trouble = "the bridge failed at what Asterisk said; its log says where"
            await self._tell(trouble)
            # One that lets the bridge in and drops it again is not asked every second either.
            self.drops = self.drops + 1 if self.heard and not self._lasts() else 0
            pause = FIRST_PAUSE if self.heard and not self.drops else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _session(self) -> None:
        async with logged_in(self.settings, self.secret) as (reader, writer):
            self.heard = True
            await self._recall()
            await self._say_how_it_is()
            for action in _QUESTIONS:
                write_action(writer, action, ActionID=action)
            await self._listen(reader, writer)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: list[Message] = []
        while True:
            message = await self._next(reader, writer)
            event = message.get("event")
            if event == "Shutdown":
                return
            if _is_forbidden(message) and message.get("actionid") in _QUESTIONS:
                self.denied = (
                    f"Asterisk does not allow {message['actionid']}: see read and write in manager.conf"
                )
                await self._say_how_it_is()
            if event == "CoreShowChannel":
                there.append(message)
            if event == "Newchannel" and self.settings.cdr is not None:
                await self._compare_clocks(message)
            await self._look_at_mailbox(message)
            for call in self.board.hear(message):
                await self._ended(call)
            if is_announced(message):
                await self._announced(message)
            if event == "CoreShowChannelsComplete":
                for call in self.board.only_these_go_on(each.get("uniqueid", "") for each in there):
                    await self._ended(call)
            await self._note()

    def _lasts(self) -> bool:
        return monotonic() - self.began >= STEADY_SECONDS

    async def _say_how_it_is(self) -> None:
        """Tell of the current connection; after several that were dropped at once, only when it lasts."""
        if self.drops < FLAPPING or self._lasts():
            self.drops = 0 if self._lasts() else self.drops
            await self._tell(self.denied)

    async def _compare_clocks(self, message: Message) -> None:
        """Call records are asked for by the time: tell if Asterisk's own is another."""
        began = began_at(message.get("uniqueid", ""))
        is_far = began is not None and abs(self.around.now() - began) > SKEW
        if is_far and self.trouble is None:
            await self._tell(_CLOCKS)
        if not is_far and self.trouble == _CLOCKS:
            await self._tell(None)

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
        """The next message, however quiet it is. Raises `TimeoutError` if Asterisk is not there."""
        if self.drops and self._lasts():
            await self._say_how_it_is()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                return await self._hear(reader)
        except TimeoutError:
            write_action(writer, "Ping")
            async with asyncio.timeout(QUIET_SECONDS):
                return await self._hear(reader)

    async def _hear(self, reader: asyncio.StreamReader) -> Message:
        block = await read_block(reader)
        self.around.tap(self.channel, "<", Phi(block))
        return parse_message(block)

    async def _recall(self) -> None:
        """What was known of the mailboxes before a restart."""
        if not self.board.mailboxes:
            self.noted = dict(await self.around.recall(self.channel))
            self.board.mailboxes.update(self.noted)

    async def _note(self) -> None:
        """Have the mailboxes' counts outlive the process, once the calls that changed them are durable."""
        if self.noted == self.board.mailboxes or self.board.is_leaving_a_message():
            return
        with suppress(StoreUnavailableError):  # the next message tries again
            await self.around.remember(self.channel, self.board.mailboxes)
            self.noted = dict(self.board.mailboxes)

    async def _look_at_mailbox(self, message: Message) -> None:
        """Count what lies in a mailbox, if the message tells of one, and of no call."""
        event = message.get("event")
        if event == "VoicemailUserEntry":
            mailbox = f"{message.get('voicemailbox')}@{message.get('vmcontext')}"
            # Call records tell of each call by itself.
            told = self.settings.cdr is None
            await self._count(mailbox, message.get("newmessagecount", ""), AWAY, told=told)
        elif event == "MessageWaiting" and not self.board.may_have_left(message):
            await self._count(message.get("mailbox", ""), message.get("new", ""), PUT)

    async def _count(self, mailbox: str, written: str, how: str, *, told: bool = True) -> None:
        """Find the messages that no call is known to have left, by how many more there are."""
        if not written.isdecimal():
            return
        count = number(written)
        more = count - self.board.mailboxes.get(mailbox, count)
        self.board.mailboxes[mailbox] = count
        if more <= 0 or not told:
            return
        spool = self.events.spool
        found = await spool.newest(mailbox, more) if spool is not None else []
        for lying in found:
            await self._keep(self.events.of_lying(lying, how))
        if more > len(found):
            now = self.around.now()
            await self._keep(
                IntakeEvent(
                    channel=self.channel,
                    key=Phi(f"{mailbox} {count} {now.isoformat()}"),
                    kind=EventKind.VOICEMAIL,
                    body=Phi(how),
                    recipient=Phi(mailbox),
                    attributes={"mailbox": Phi(mailbox), "messages": Phi(str(more - len(found)))},
                )
            )

    async def _ended(self, call: Call) -> None:
        # Of one whose begin was not heard, nobody knows: rather a page too many.
        begins_outside = (
            not (call.context and self.settings.contexts) or call.context in self.settings.contexts
        )
        if call.kind is not None and begins_outside:
            await self._keep(await self.events.of_ended(call))

    async def _announced(self, message: Message) -> None:
        """What another program had Asterisk say. It is nobody's call, so that its moment makes its key."""
        moment = message.get("timestamp") or f"{self.around.now().timestamp():.6f}"
        call = announced(message, f"{message.get('actionid', '')} {moment}")
        kind = EventKind.VOICEMAIL if call.mailbox else EventKind.PAGE
        await self._keep(self.events.of_call(call, kind))

    async def _keep(self, event: IntakeEvent) -> None:
        """Keep an event, however long it takes: Asterisk says nothing twice."""
        pause = FIRST_PAUSE
        while True:
            try:
                receipt = await self.around.inbox.accept(event)
            except StoreUnavailableError:
                self.around.count(self.channel, "store_unavailable")
                log.warning("call_waits_for_the_store", channel=self.channel)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                outcome = "duplicate" if receipt.duplicate else "accepted"
                self.around.count(self.channel, outcome)
                log.info("call_taken", channel=self.channel, kind=event.kind.value, outcome=outcome)
                return

    async def _tell(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            await self.around.tell(self.channel, trouble)


def _places(error: Exception) -> list[str]:
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]


def _is_forbidden(message: Message) -> bool:
    # An Asterisk without queues or mailboxes does not know the question, and has nothing to tell of them.
    return message.get("response") == "Error" and "unknown command" not in message.get("message", "").lower()


# What is asked after each login, so that nothing stays unknown that happened before it.
_QUESTIONS = ("CoreShowChannels", "QueueStatus", "VoicemailUsersList")
