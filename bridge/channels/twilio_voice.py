"""Calls at Twilio: what its callbacks say of a call that nobody took.

https://www.twilio.com/docs/voice/twiml/dial, .../enqueue, .../record (the requests to their `action`),
https://www.twilio.com/docs/voice/twiml#request-parameters (a call's own).
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.channels.numbers import normal_number
from bridge.channels.twilio_media import recording
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional

Form = Mapping[str, str]


def call(channel: ChannelId, form: Form, region: str | None) -> IntakeEvent | None:
    """The event that a callback is; None if somebody took the call, or it goes on."""
    kind = _kind(form)
    if kind is None:
        return None
    said = {
        "digits": form.get("Digits"),
        "waited_seconds": form.get("QueueTime"),
        "recording_seconds": form.get("RecordingDuration") if kind == EventKind.VOICEMAIL else None,
    }
    return IntakeEvent(
        channel=channel,
        key=Phi(form["CallSid"]),
        kind=kind,
        body=Phi(""),
        caller=normal_number(form.get("From"), region),
        caller_name=protect_optional(form.get("CallerName")),
        called=normal_number(form.get("To"), region),
        attributes={name: Phi(value) for name, value in said.items() if value},
        attachments=recording(form) if kind == EventKind.VOICEMAIL else (),
    )


def _kind(form: Form) -> EventKind | None:
    """The most telling field decides: all callbacks have a CallStatus."""
    if form.get("Direction", "").startswith("outbound"):
        return None
    if form.get("RecordingUrl") or form.get("RecordingSid"):
        # A conversation that was recorded is no message.
        if form.get("RecordingSource", "RecordVerb") != "RecordVerb":
            return None
        empty = form.get("RecordingDuration", "") in ("0", "") or form.get("RecordingStatus") == "absent"
        return EventKind.MISSED_CALL if empty else EventKind.VOICEMAIL
    if queue := form.get("QueueResult"):
        ended = {"bridged": None, "hangup": EventKind.ABANDONED_CALL}
        return ended.get(queue, EventKind.MISSED_CALL)
    if dialled := form.get("DialCallStatus"):
        return None if dialled in ("completed", "answered") else EventKind.MISSED_CALL
    nobody = form.get("CallStatus") in ("no-answer", "busy", "canceled", "failed")
    return EventKind.MISSED_CALL if nobody else None
