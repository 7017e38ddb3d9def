"""A call that the bridge itself answers at Twilio: a menu, and a voicemail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring

from bridge.channels import twilio_menu
from bridge.model.event import EventKind
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels.signers import PUBLIC_URL, twilio_headers
from tests.channels.test_twilio_voice import CALL, RECORDED
from tests.channels.wire import TWILIO, RememberingInbox, Reply, Server, opened, running

VOICE = """
voice:
  greeting: Cardiology <after hours> & weekends.
  longest: 90s
"""
PLACE = f"{PUBLIC_URL}/intake/door/voice"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_menu, "SETTLE_SECONDS", 0.1)


@pytest.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(TWILIO + VOICE, inbox)) as server:
        yield server


async def ask(server: Server, url: str, **fields: str) -> Reply:
    form = CALL | fields
    return await server.post(
        urlencode(form), twilio_headers(form, url=url), path=url.removeprefix(PUBLIC_URL)
    )


async def heard(server: Server, url: str, **fields: str) -> Element:
    reply = await ask(server, url, **fields)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/xml")
    found: Element = fromstring(reply.text)
    assert found.tag == "Response"
    return found


def of(said: Element, tag: str) -> Element:
    found = said.find(tag)
    assert found is not None
    return found


async def call(server: Server, key: str | None, *, speaks: bool = True) -> None:
    """A whole call, each step where the one before sent Twilio."""
    said = await heard(server, PLACE, CallStatus="ringing")
    assert (
        of(said, "Gather/Say").text
        == "Cardiology <after hours> & weekends. If this is an emergency, press 1."
    )
    onward = of(said, "Gather").attrib["action"] if key else str(of(said, "Redirect").text)
    said = await heard(server, onward, **({"Digits": key} if key else {}))
    record = of(said, "Record")
    assert record.attrib["maxLength"] == "90"
    if speaks:
        said = await heard(server, record.attrib["action"], **RECORDED, Digits="hangup")
    else:
        said = await heard(server, str(of(said, "Redirect").text))
    assert said.find("Hangup") is not None
    await heard(server, f"{PLACE}/status", CallStatus="completed")


@pytest.mark.parametrize(("key", "priority"), [("1", Priority.STAT), ("2", None), (None, None)])
async def test_a_call_is_one_event_with_the_priority_that_its_caller_pressed(
    server: Server, inbox: RememberingInbox, key: str | None, priority: Priority | None
) -> None:
    await call(server, key)
    [event] = inbox.events
    assert (event.kind, event.priority, event.key) == (EventKind.VOICEMAIL, priority, Phi(CALL["CallSid"]))
    assert event.attributes.get("digits") == (Phi("1") if priority else None)
    assert len(event.attachments) == 1


async def test_a_caller_who_says_nothing_is_a_missed_call(server: Server, inbox: RememberingInbox) -> None:
    await call(server, "1", speaks=False)
    [event] = inbox.events
    assert (event.kind, event.priority) == (EventKind.MISSED_CALL, Priority.STAT)


@pytest.mark.parametrize("pressed", [True, False])
async def test_a_caller_who_hangs_up_in_the_menu_is_a_missed_call(
    server: Server,
    inbox: RememberingInbox,
    pressed: bool,  # noqa: FBT001
) -> None:
    await heard(server, PLACE)
    if pressed:
        await heard(server, f"{PLACE}/message", Digits="1")
    await heard(server, f"{PLACE}/status", CallStatus="completed")
    [event] = inbox.events
    assert (event.kind, event.priority) == (EventKind.MISSED_CALL, Priority.STAT if pressed else None)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_callbacks_in_any_order_and_repeated_are_one_voicemail(
    server: Server, inbox: RememberingInbox, order: tuple[int, ...]
) -> None:
    callbacks: list[tuple[str, dict[str, str]]] = [
        ("status", {"CallStatus": "ringing"}),
        ("recorded", RECORDED),
        ("status", {"CallStatus": "completed"}),
    ]
    told = [callbacks[number] for number in order * 2]
    await asyncio.gather(*(heard(server, f"{PLACE}/{step}", **fields) for step, fields in told))
    assert [event.kind for event in inbox.events] == [EventKind.VOICEMAIL]


async def test_a_message_that_is_told_long_after_the_calls_end_is_not_lost(
    server: Server, inbox: RememberingInbox
) -> None:
    await heard(server, f"{PLACE}/status", CallStatus="completed")
    for _ in range(2):
        await heard(server, f"{PLACE}/recorded", **RECORDED)
    assert [event.kind for event in inbox.events] == [EventKind.MISSED_CALL, EventKind.VOICEMAIL]


@pytest.mark.parametrize("step", ["", "/message", "/recorded", "/recorded/stat", "/status"])
async def test_every_step_is_signed(server: Server, inbox: RememberingInbox, step: str) -> None:
    form = CALL | RECORDED | {"CallStatus": "completed"}
    elsewhere = twilio_headers(form, url=f"{PLACE}/elsewhere")
    reply = await server.post(urlencode(form), elsewhere, path=f"/intake/door/voice{step}")
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


async def test_what_is_no_call_is_kept(server: Server, inbox: RememberingInbox) -> None:
    reply = await ask(server, f"{PLACE}/recorded", CallSid="")
    assert (reply.status, reply.json["error"]) == (400, "unreadable_but_kept")
    assert len(inbox.unreadable) == 1


async def test_the_database_away_is_told_at_the_step_that_would_keep_the_call(
    server: Server, inbox: RememberingInbox
) -> None:
    inbox.away = True
    await heard(server, PLACE)
    assert (await ask(server, f"{PLACE}/recorded", **RECORDED)).status == 503


async def test_without_a_menu_there_is_none(inbox: RememberingInbox) -> None:
    async with running(opened(TWILIO, inbox)) as server:
        assert (await ask(server, PLACE)).status == 404


async def test_without_an_emergency_no_key_is_offered(inbox: RememberingInbox) -> None:
    async with running(opened(f'{TWILIO}{VOICE}  emergency: ""\n', inbox)) as server:
        said = await heard(server, PLACE)
        assert said.find("Gather") is None
        said = await heard(server, str(of(said, "Redirect").text), Digits="1")
        assert of(said, "Record").attrib["action"] == f"{PLACE}/recorded"
