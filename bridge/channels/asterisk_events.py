"""The intake events that calls and messages at an Asterisk are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bridge.channels.asterisk_spool import Lying, Spool
from bridge.channels.asterisk_spool import Message as Recorded
from bridge.channels.calls import Call, Voicemail
from bridge.channels.cdr import RecordedCall, began_at
from bridge.channels.moments import from_unix
from bridge.channels.numbers import normal_number
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.model.priority import Priority


@dataclass(frozen=True, slots=True)
class Events:
    """Makes a channel's events. `region` is the country of its numbers; recordings come from `spool`, if there is."""

    channel: ChannelId
    region: str | None
    spool: Spool | None

    async def of_ended(self, call: Call) -> IntakeEvent:
        """The event of a call that is one. Where no mailer tells of a message's length, the spool directory does."""
        if self.spool is not None and call.voicemail == Voicemail.LEFT and not call.length:
            empty = [await self.spool.is_empty(each) for each in _recording(call)]
            call = replace(call, voicemail=Voicemail.EMPTY) if any(empty) else call
        assert call.kind is not None  # noqa: S101 - an empty message is something, too
        return self.of_call(call, call.kind)

    def of_lying(self, lying: Lying, how: str) -> IntakeEvent:
        """A message that lies in a mailbox, and that no call is known to have left."""
        message = lying.message
        return IntakeEvent(
            channel=self.channel,
            key=Phi(f"{message.mailbox} {message.identity}"),
            kind=EventKind.MISSED_CALL if lying.is_empty else EventKind.VOICEMAIL,
            body=Phi(how),
            caller=normal_number(lying.caller, self.region),
            caller_name=protect_optional(lying.caller_name),
            recipient=Phi(message.mailbox),
            occurred_at=from_unix(str(message.since)) if message.since else None,
            attributes={"mailbox": Phi(message.mailbox)},
            attachments=() if lying.is_empty else (message.attachment(),),
        )

    def of_call(self, call: Call, kind: EventKind) -> IntakeEvent:
        """A call, as an event of a kind."""
        told = call.told or {}
        heard = kind == EventKind.VOICEMAIL and self.spool is not None
        urgency = told.get("priority", "").lower()
        said = {"mailbox": call.mailbox, "digits": call.digits, "waited_seconds": call.waited}
        return IntakeEvent(
            channel=self.channel,
            key=Phi(call.key),
            kind=kind,
            body=Phi(told.get("body", "")),
            caller=normal_number(call.caller, self.region),
            caller_name=protect_optional(call.caller_name),
            called=normal_number(call.called, self.region),
            recipient=protect_optional(told.get("recipient") or call.mailbox),
            queue=protect_optional(call.queue),
            priority=Priority(urgency) if urgency in list(Priority) else None,
            occurred_at=began_at(call.linkedid) or from_unix(call.began.partition(".")[0]),
            attributes={name: Phi(value) for name, value in said.items() if value},
            attachments=tuple(each.attachment() for each in _recording(call)) if heard else (),
        )


def call_of(recorded: RecordedCall) -> Call:
    """A call as its records have it."""
    return Call(
        recorded.linkedid,
        began=str(round(recorded.began.timestamp())),
        caller=recorded.caller,
        caller_name=recorded.caller_name,
        called=recorded.called,
        queue=recorded.queue,
        fate=recorded.fate,
        voicemail=recorded.voicemail,
        mailbox=recorded.mailbox,
        speaking=recorded.channel,
    )


def _recording(call: Call) -> tuple[Recorded, ...]:
    """The message that the call left. A Linkedid ends with the moment at which the call began."""
    began = re.search(r"(\d{9,11})\.\d+$", call.linkedid)
    if began is None or not call.mailbox:
        return ()
    return (Recorded(call.mailbox, call.file, int(began[1]), call.caller, channel=call.speaking),)
