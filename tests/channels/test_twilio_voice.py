"""Calls at Twilio that nobody took."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import permutations
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from bridge.model.attachment import Attachment
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels.signers import twilio_headers
from tests.channels.wire import TWILIO, RememberingInbox, Reply, Server, opened, running

CALL = {
    "CallSid": "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "AccountSid": "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "From": "+15550001111",
    "To": "+15554567890",
    "CallStatus": "in-progress",
    "ApiVersion": "2010-04-01",
    "Direction": "inbound",
    "CallerName": "MARIA LOPEZ",
}
RECORDED = {
    "RecordingUrl": "https://api.twilio.example/RE1",
    "RecordingSid": "RE1",
    "RecordingDuration": "12",
}


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(TWILIO, inbox)) as server:
        yield server


async def send(server: Server, **fields: str) -> Reply:
    form = CALL | fields
    return await server.post(urlencode(form), twilio_headers(form))


async def test_an_abandoned_call_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    reply = await send(server, QueueResult="hangup", QueueTime="41", CallStatus="completed")
    assert reply.status == 200
    assert reply.text.endswith("<Response/>")
    [event] = inbox.events
    assert event == IntakeEvent(
        channel=event.channel,
        key=Phi("CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        kind=EventKind.ABANDONED_CALL,
        body=Phi(""),
        caller=Phi("+15550001111"),
        caller_name=Phi("MARIA LOPEZ"),
        called=Phi("+15554567890"),
        attributes={"waited_seconds": Phi("41")},
    )


async def test_a_message_is_a_voicemail_with_its_recording(server: Server, inbox: RememberingInbox) -> None:
    await send(server, **RECORDED, Digits="hangup")
    [event] = inbox.events
    assert event.kind == EventKind.VOICEMAIL
    assert event.attachments == (Attachment("audio/x-wav", place=Phi("https://api.twilio.example/RE1")),)
    assert event.attributes["recording_seconds"] == Phi("12")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (RECORDED | {"RecordingDuration": "0"}, EventKind.MISSED_CALL),
        ({"RecordingSid": "RE1", "RecordingStatus": "absent"}, EventKind.MISSED_CALL),
        (RECORDED | {"RecordingSource": "DialVerb"}, None),
        ({"QueueResult": "bridged"}, None),
        ({"QueueResult": "queue-full"}, EventKind.MISSED_CALL),
        ({"DialCallStatus": "no-answer"}, EventKind.MISSED_CALL),
        ({"DialCallStatus": "busy"}, EventKind.MISSED_CALL),
        ({"DialCallStatus": "completed"}, None),
        ({"CallStatus": "no-answer"}, EventKind.MISSED_CALL),
        ({"CallStatus": "canceled"}, EventKind.MISSED_CALL),
        ({"CallStatus": "completed"}, None),
        ({"CallStatus": "ringing"}, None),
        ({"CallStatus": "no-answer", "Direction": "outbound-api"}, None),
    ],
)
async def test_a_callback_is_an_event_if_nobody_took_the_call(
    server: Server, inbox: RememberingInbox, fields: dict[str, str], kind: EventKind | None
) -> None:
    assert (await send(server, **fields)).status == 200
    assert [event.kind for event in inbox.events] == ([kind] if kind else [])
    assert not inbox.unreadable


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_call_is_one_event_in_whatever_order_its_callbacks_come(
    server: Server, inbox: RememberingInbox, order: tuple[int, ...]
) -> None:
    callbacks = [{"CallStatus": "ringing"}, RECORDED, {"CallStatus": "completed"}]
    for number in order * 2:
        await send(server, **callbacks[number])
    assert [event.kind for event in inbox.events] == [EventKind.VOICEMAIL]
