"""What became of each call, from what Asterisk says of its channels. It decides only when a call has ended.

A call is all channels with one Linkedid: `Local/` channels double every leg, and the caller's own is not always
the last to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bridge.channels.ami import Message
from bridge.model.event import EventKind

MAX_CALLS = 10_000  # at once; the oldest above them is decided on, as if it had ended
MAX_DIGITS = 64
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
    context: str = ""
    caller: str = field(default="", repr=False)
    caller_name: str = field(default="", repr=False)
    called: str = field(default="", repr=False)
    queue: str = field(default="", repr=False)
    waited: str = ""
    fate: Fate | None = None
    voicemail: Voicemail | None = None
    mailbox: str = field(default="", repr=False)
    file: str = field(default="", repr=False)  # the voicemail's, without its ending
    digits: str = field(default="", repr=False)
    told: Mapping[str, str] | None = field(
        default=None, repr=False
    )  # the dialplan's UserEvent(Nightbell,...)

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


class Board:
    """All calls that go on. `hear` takes each message in its order, and gives the calls that it ends."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.mailboxes: dict[str, int] = {}  # new messages in each
        self._home: dict[str, str] = {}  # a channel's call
        self._recorded: dict[
            str, str
        ] = {}  # what Asterisk's mailer says of the message it is about to tell of

    def hear(self, message: Message) -> list[Call]:
        """Take a message; give the calls that have ended by it."""
        event, linkedid = message.get("event", ""), message.get("linkedid", "")
        if event == "QueueEntry":  # the answer to QueueStatus names the channel only
            linkedid = self._home.get(message.get("uniqueid", ""), "")
        if event == "VarSet" and message.get("variable", "").startswith("VM_"):
            self._recorded[message["variable"]] = message.get("value", "")
        if event == "MessageWaiting":
            self.mailboxes[message.get("mailbox", "")] = _number(message.get("new", ""))
        ended: list[Call] = []
        if event in _APPEARANCES and linkedid:
            ended += self._appears(message, linkedid)
        if event == "Hangup":
            return ended + self._goes(message.get("uniqueid", ""), linkedid)
        if (call := self.calls.get(linkedid)) and event in _FACTS:
            self.calls[linkedid] = _FACTS[event](call, message)
            if event == "MessageWaiting":
                self.calls[linkedid] = _recorded(self.calls[linkedid], self._recorded)
                self._recorded = {}
        return ended

    def is_leaving_a_message(self) -> bool:
        """Whether some call that goes on has come to a mailbox."""
        return any(call.voicemail is not None for call in self.calls.values())

    def only_these_go_on(self, channels: Iterable[str]) -> list[Call]:
        """After a reconnection: the calls that have ended in between."""
        alive = set(channels)
        gone = [channel for channel in self._home if channel not in alive]
        return [call for channel in gone for call in self._goes(channel, "")]

    def _appears(self, message: Message, linkedid: str) -> list[Call]:
        channel = message.get("uniqueid", "")
        old = self._home.get(channel)
        ended = self._goes(channel, "") if old not in (None, linkedid) else []
        self._home[channel] = linkedid
        call = self.calls.get(linkedid) or Call(linkedid)
        self.calls[linkedid] = _with_caller(replace(call, channels=call.channels | {channel}), message)
        if len(self.calls) > MAX_CALLS:
            ended.append(self._forget(next(iter(self.calls))))
        return ended

    def _goes(self, channel: str, linkedid: str) -> list[Call]:
        linkedid = self._home.pop(channel, linkedid)
        call = self.calls.get(linkedid)
        if call is None:
            return []
        self.calls[linkedid] = call = replace(call, channels=call.channels - {channel})
        return [] if call.channels else [self._forget(linkedid)]

    def _forget(self, linkedid: str) -> Call:
        call = self.calls.pop(linkedid)
        for channel in call.channels:
            self._home.pop(channel, None)
        return call


def _with_caller(call: Call, message: Message) -> Call:
    """The call with what its first channels say of who calls whom; the later ones are the agents'."""

    def known(value: str, name: str) -> str:
        said = message.get(name, "")
        return value or ("" if said in UNKNOWN else said)

    return replace(
        call,
        began=known(call.began, "timestamp"),
        context=known(call.context, "context"),
        caller=known(call.caller, "calleridnum"),
        caller_name=call.caller_name if call.caller else known("", "calleridname"),
        called=known(call.called, "exten"),
    )


def _there(call: Call, message: Message) -> Call:
    """Who waited before a reconnection, and is in a bridge after it, was answered in between."""
    answered = call.fate == Fate.WAITING and message.get("bridgeid")
    return replace(call, fate=Fate.ANSWERED) if answered else call


def _variable(call: Call, message: Message) -> Call:
    variable, value = message.get("variable"), message.get("value", "")
    if variable == "QUEUESTATUS" and value in _NOBODY_TOOK_IT:
        return replace(call, fate=Fate.UNANSWERED)
    if variable == "VMSTATUS" and call.voicemail in (None, Voicemail.ENTERED):
        return replace(call, voicemail=Voicemail.LEFT if value == "SUCCESS" else Voicemail.ENTERED)
    return call


_NOBODY_TOOK_IT = ("TIMEOUT", "FULL", "JOINEMPTY", "LEAVEEMPTY", "JOINUNAVAIL", "LEAVEUNAVAIL")


def _dialled(call: Call, message: Message) -> Call:
    if not message.get("uniqueid"):  # a call that Asterisk itself made: nobody dialled
        return call
    if message.get("dialstatus") == "ANSWER":
        return replace(call, fate=Fate.ANSWERED)
    return call if call.fate else replace(call, fate=Fate.UNANSWERED)


def _step(call: Call, message: Message) -> Call:
    entered = message.get("application", "").lower() == "voicemail"
    return replace(call, voicemail=Voicemail.ENTERED) if entered and call.voicemail is None else call


def _message_waits(call: Call, message: Message) -> Call:
    # It is told of a mailbox that is listened to, too: then the call did not go through VoiceMail().
    if call.voicemail is None or message.get("waiting") != "1":
        return call
    return replace(call, voicemail=Voicemail.LEFT, mailbox=message.get("mailbox", ""))


def _recorded(call: Call, said: Mapping[str, str]) -> Call:
    """The call with what the mailer said, if that was of the same mailbox."""
    mailbox = f"{said['VM_MAILBOX']}@{said.get('VM_CONTEXT')}" if "VM_MAILBOX" in said else call.mailbox
    if call.voicemail is not Voicemail.LEFT or mailbox != call.mailbox:
        return call
    empty = said.get("VM_DUR") == "0:00"
    return replace(
        call,
        voicemail=Voicemail.EMPTY if empty else Voicemail.LEFT,
        file=said.get("VM_MESSAGEFILE", "").rpartition("/")[2],
    )


def _pressed(call: Call, message: Message) -> Call:
    if message.get("direction") != "Received":
        return call
    return replace(call, digits=(call.digits + message.get("digit", ""))[:MAX_DIGITS])


def _told(call: Call, message: Message) -> Call:
    if message.get("userevent", "").lower() == "nightbell":
        return replace(call, told={name: message[name] for name in _TELLABLE if message.get(name)})
    if digits := message.get("digits"):
        return replace(call, digits=digits[:MAX_DIGITS])
    return call


_TELLABLE = ("body", "priority", "recipient")

# The events in which a channel is there, and says whose it is.
_APPEARANCES = frozenset({"Newchannel", "Newstate", "CoreShowChannel", "QueueCallerJoin"})
_FACTS: dict[str, Callable[[Call, Message], Call]] = {
    "QueueCallerJoin": lambda call, said: replace(call, queue=said.get("queue", ""), fate=Fate.WAITING),
    "QueueEntry": lambda call, said: replace(call, queue=said.get("queue", ""), fate=Fate.WAITING),
    "QueueCallerAbandon": lambda call, said: replace(
        call, waited=said.get("holdtime", ""), fate=Fate.ABANDONED
    ),
    "CoreShowChannel": _there,
    "AgentConnect": lambda call, _: replace(call, fate=Fate.ANSWERED),
    "DialEnd": _dialled,
    "VarSet": _variable,
    "Newexten": _step,
    "MessageWaiting": _message_waits,
    "DTMFEnd": _pressed,
    "UserEvent": _told,
}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
