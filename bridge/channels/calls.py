"""What became of each call, from what Asterisk says of its channels. It decides only when a call has ended.

A call is all channels made under one Linkedid: `Local/` channels double every leg, and the caller's own is not always
the last to go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bridge.channels.ami import Message
from bridge.model.event import EventKind

MAX_CALLS = 10_000  # at once; the oldest above them is decided on, as if it had ended
MAX_DIGITS = 64
MAX_MESSAGES = 16  # that one call leaves, each a page of its own
EMPTY_LENGTH = "0:00"
UNKNOWN = ("", "<unknown>", "s")  # how Asterisk writes that there is no number, name or extension


class Fate(StrEnum):
    """How a call stands with those who could answer it."""

    WAITING = "waiting"
    ABANDONED = "abandoned"  # the caller hung up, or a queue's time was over: what follows tells which
    UNANSWERED = "unanswered"
    ANSWERED = "answered"


class Voicemail(StrEnum):
    """How far a caller came with a message."""

    ENTERED = "entered"
    EMPTY = "empty"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call. Its words and numbers are the caller's: they are not shown."""

    linkedid: str
    channels: frozenset[str] = frozenset()
    began: str = ""
    context: str = ""  # in which it began; empty if that was not heard
    caller: str = field(default="", repr=False)
    caller_name: str = field(default="", repr=False)
    called: str = field(default="", repr=False)
    queue: str = field(default="", repr=False)
    waited: str = ""
    fate: Fate | None = None
    voicemail: Voicemail | None = None
    mailbox: str = field(default="", repr=False)
    file: str = field(default="", repr=False)  # the voicemail's, without its ending
    length: str = ""  # the voicemail's, as the mailer has it: a mailbox without an address has no mailer
    listens: bool = False  # to a mailbox
    before: tuple[Call, ...] = field(default=(), repr=False)  # as it was at each message before this one
    speaking: str = ""  # the channel that came to the mailbox, where call records tell of the call
    digits: str = field(default="", repr=False)
    told: Mapping[str, str] | None = field(
        default=None, repr=False
    )  # the dialplan's UserEvent(Nightbell,...)

    @property
    def key(self) -> str:
        """The Linkedid, and of a further message which it is: each is a page of its own."""
        return f"{self.linkedid} {len(self.before) + 1}" if self.before else self.linkedid

    @property
    def kind(self) -> EventKind | None:
        """What the ended call is for those on call; None if it needs nobody."""
        if self.voicemail is not None:
            return EventKind.VOICEMAIL if self.voicemail == Voicemail.LEFT else EventKind.MISSED_CALL
        if self.fate in (Fate.WAITING, Fate.UNANSWERED):
            return EventKind.MISSED_CALL
        if self.fate == Fate.ABANDONED:
            return EventKind.ABANDONED_CALL
        return EventKind.MISSED_CALL if self.told is not None else None


Fact = Callable[[Call, Message], Call]


class Board:
    """All calls that go on. `hear` takes each message in its order, and gives the calls that it ends."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.mailboxes: dict[str, int] = {}  # new messages in each
        self._home: dict[str, str] = {}  # the call in which a channel was born
        self._mailer: dict[str, str] = {}  # what Asterisk's mailer says of the message it is about to tell of

    def hear(self, message: Message) -> list[Call]:
        """Take a message; give the calls that have ended by it."""
        event = message.get("event", "")
        channel = message.get("uniqueid") or message.get("parkeeuniqueid", "")
        # The answer to QueueStatus names the channel only, and so does what is told of a parked one.
        linkedid = message.get("linkedid") or self._home.get(channel, "")
        if event == "VarSet":
            self._hear_mailer(message.get("variable", ""), message.get("value", ""))
        ended = self._appears(message, linkedid) if event in _APPEARANCES and linkedid else []
        if event == "Hangup":
            return ended + self._goes(channel, linkedid)
        fact = self._message_waits(message) if event == "MessageWaiting" else _FACTS.get(event)
        if fact is not None:
            # Who is transferred goes on under the older of two Linkedids: what they meet concerns both calls.
            for each in dict.fromkeys((linkedid, self._home.get(channel, linkedid))):
                if call := self.calls.get(each):
                    self.calls[each] = fact(call, message)
        return ended

    def may_have_left(self, message: Message) -> bool:
        """Whether a call that goes on has perhaps left the message; who only listens may have forwarded it."""
        names = (message.get("linkedid", ""), self._home.get(message.get("uniqueid", ""), ""))
        return any(call is not None and not call.listens for call in map(self.calls.get, names))

    def is_leaving_a_message(self) -> bool:
        """Whether some call that goes on has come to a mailbox."""
        return any(call.voicemail is not None for call in self.calls.values())

    def only_these_go_on(self, channels: Iterable[str]) -> list[Call]:
        """After a reconnection: the calls that have ended in between."""
        alive = set(channels)
        gone = [channel for channel in self._home if channel not in alive]
        return [call for channel in gone for call in self._goes(channel, "")]

    def _hear_mailer(self, variable: str, value: str) -> None:
        """Its words are of no channel. Where two messages' are mixed, neither's length is known."""
        if variable in ("VM_MAILBOX", "VM_CONTEXT", "VM_DUR"):
            mixed = self._mailer.get(variable, value) != value
            self._mailer[variable] = "" if mixed else value

    def _message_waits(self, message: Message) -> Fact:
        mailbox, new = message.get("mailbox", ""), number(message.get("new", ""))
        more = new > self.mailboxes.get(mailbox, new)
        self.mailboxes[mailbox] = new
        said, self._mailer = self._mailer, {}
        of_it = mailbox == f"{said.get('VM_MAILBOX')}@{said.get('VM_CONTEXT')}"
        length = said.get("VM_DUR", "") if of_it else ""

        def fact(call: Call, _: Message) -> Call:
            # It is told of a mailbox that is listened to, too; then there are not more.
            if message.get("waiting") != "1" or (call.voicemail is None and (call.listens or not more)):
                return call
            if length == EMPTY_LENGTH and call.voicemail == Voicemail.LEFT:
                return call
            left = Voicemail.EMPTY if length == EMPTY_LENGTH else Voicemail.LEFT
            return replace(call, voicemail=left, mailbox=mailbox, length=length)

        return fact

    def _appears(self, message: Message, linkedid: str) -> list[Call]:
        channel = message.get("uniqueid", "")
        linkedid = self._home.setdefault(channel, linkedid)
        call = self.calls.get(linkedid) or Call(linkedid)
        self.calls[linkedid] = _with_caller(replace(call, channels=call.channels | {channel}), message)
        return self._forget(next(iter(self.calls))) if len(self.calls) > MAX_CALLS else []

    def _goes(self, channel: str, linkedid: str) -> list[Call]:
        linkedid = self._home.pop(channel, linkedid)
        call = self.calls.get(linkedid)
        if call is None:
            return []
        self.calls[linkedid] = call = replace(call, channels=call.channels - {channel})
        return [] if call.channels else self._forget(linkedid)

    def _forget(self, linkedid: str) -> list[Call]:
        call = self.calls.pop(linkedid)
        for channel in call.channels:
            self._home.pop(channel, None)
        # Who has left a message before has told what the call was for.
        last = () if call.before and call.voicemail != Voicemail.LEFT else (call,)
        return [*call.before, *last]


def _with_caller(call: Call, message: Message) -> Call:
    """The call with what its first channel says of who calls whom; the later ones are the agents'."""
    own = message.get("uniqueid") == call.linkedid
    begins = own and message.get("event") == "Newchannel"
    late = (
        own and not begins and not call.context
    )  # its begin was not heard, and its agents' channels may have been

    def known(value: str, name: str) -> str:
        said = "" if message.get(name) in UNKNOWN else message.get(name, "")
        return (said or value) if late else (value or said)

    return replace(
        call,
        began=known(call.began, "timestamp"),
        context=known(call.context, "context") if begins else call.context,
        caller=known(call.caller, "calleridnum"),
        caller_name=call.caller_name if call.caller else known("", "calleridname"),
        called=known(call.called, "exten"),
    )


def _there(call: Call, message: Message) -> Call:
    """What a call that goes on is at: after a reconnection, or when it began before the first."""
    if message.get("bridgeid"):  # who waited before is answered by now
        return replace(call, fate=Fate.ANSWERED) if call.fate == Fate.WAITING else call
    if message.get("application", "").lower() == "dial":
        return _dials(call, message)
    return _step(call, message)


def _variable(call: Call, message: Message) -> Call:
    variable, value = message.get("variable"), message.get("value", "")
    if variable == "QUEUESTATUS" and value in _NOBODY_TOOK_IT:
        return replace(call, fate=Fate.UNANSWERED)
    if variable == "VMSTATUS" and call.voicemail != Voicemail.LEFT:
        if value == "SUCCESS" and call.voicemail != Voicemail.EMPTY:
            return replace(call, voicemail=Voicemail.LEFT)
        # Nothing was left, and the caller may go on from there, to an operator.
        return replace(call, voicemail=None, fate=Fate.UNANSWERED)
    if variable == "VM_MESSAGEFILE":
        # Told once of each message, before what tells of its mailboxes.
        if call.voicemail == Voicemail.LEFT and len(call.before) < MAX_MESSAGES:
            call = replace(call, voicemail=Voicemail.ENTERED, before=(*call.before, call))
        return replace(call, file=value.rpartition("/")[2])
    return call


_NOBODY_TOOK_IT = ("TIMEOUT", "FULL", "JOINEMPTY", "LEAVEEMPTY", "JOINUNAVAIL", "LEAVEUNAVAIL")


def _waits(call: Call, message: Message) -> Call:
    return replace(_goes_on(call), queue=message.get("queue", ""), fate=Fate.WAITING)


def _goes_on(call: Call) -> Call:
    """Who leaves no message in a mailbox is its owner's concern only as long as nobody else is sought."""
    return call if call.voicemail == Voicemail.LEFT else replace(call, mailbox="")


def _dials(call: Call, message: Message) -> Call:
    """Somebody is rung for the caller: at first, or once more after a transfer or a mailbox; what follows counts."""
    own = message.get("uniqueid") == call.linkedid
    return replace(_goes_on(call), fate=Fate.WAITING) if own else call


def _dialled(call: Call, message: Message) -> Call:
    if not message.get("uniqueid"):  # a call that Asterisk itself made: nobody dialled
        return call
    if message.get("dialstatus") == "ANSWER":
        return replace(call, fate=Fate.ANSWERED)
    return call if call.fate else replace(call, fate=Fate.UNANSWERED)


def _step(call: Call, message: Message) -> Call:
    application = message.get("application", "").lower()
    if application == "voicemailmain":
        return replace(call, listens=True)
    if application != "voicemail" or call.voicemail is not None:
        return call
    # VoiceMail(100@default&101@default,options): of several the first is meant, the others get copies.
    mailbox = re.match(
        r"([\w.+*#-]+)(@[\w.-]+)?", message.get("appdata", "") or message.get("applicationdata", "")
    )
    named = f"{mailbox[1]}{mailbox[2] or '@default'}" if mailbox else ""
    return replace(call, voicemail=Voicemail.ENTERED, mailbox=named)


def _pressed(call: Call, message: Message) -> Call:
    if message.get("direction") != "Received":
        return call
    return replace(call, digits=(call.digits + message.get("digit", ""))[:MAX_DIGITS])


def _told(call: Call, message: Message) -> Call:
    if message.get("userevent", "").lower() == "nightbell":
        return replace(call, told=_tellable(message))
    if digits := message.get("digits"):
        return replace(call, digits=digits[:MAX_DIGITS])
    return call


def _tellable(message: Message) -> Mapping[str, str]:
    return {name: message[name] for name in ("body", "priority", "recipient") if message.get(name)}


def is_announced(message: Message) -> bool:
    """Whether a program other than the dialplan, which has no call, had Asterisk say this (AMI's action UserEvent)."""
    ours = message.get("event") == "UserEvent" and message.get("userevent", "").lower() == "nightbell"
    return ours and not message.get("linkedid")


def announced(message: Message, key: str) -> Call:
    """What it says, as of a call of its own."""
    call = Call(key, mailbox=message.get("mailbox", ""), told=_tellable(message))
    return _with_caller(call, message)


# The events in which a channel is there, and says whose it is.
_APPEARANCES = frozenset({"Newchannel", "Newstate", "CoreShowChannel", "QueueCallerJoin"})
_FACTS: dict[str, Fact] = {
    "QueueCallerJoin": _waits,
    "QueueEntry": _waits,
    "QueueCallerAbandon": lambda call, said: replace(
        call, waited=said.get("holdtime", ""), fate=Fate.ABANDONED
    ),
    "ParkedCallGiveUp": lambda call, _: replace(call, fate=Fate.ABANDONED),
    "CoreShowChannel": _there,
    "AgentConnect": lambda call, _: replace(call, fate=Fate.ANSWERED),
    "DialBegin": _dials,
    "DialEnd": _dialled,
    "VarSet": _variable,
    "Newexten": _step,
    "DTMFEnd": _pressed,
    "UserEvent": _told,
}


def number(text: str) -> int:
    """A count, as Asterisk writes it; 0 if it is none."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
