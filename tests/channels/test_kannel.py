"""A patient's text, as Kannel's smsbox requests it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from bridge.channels.kannel import _part
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels.signers import KANNEL_SECRET
from tests.channels.wire import KANNEL, RememberingInbox, Reply, Server, opened, running

CAPTURED = [
    json.loads(line)
    for line in (Path(__file__).parent / "captures" / "kannel_requests.jsonl").read_text().splitlines()
]
GET, EMOJI, JOINED, XML, POST = (CAPTURED[number] for number in (0, 8, 9, 10, 11))
URL = f"/intake/door?secret={KANNEL_SECRET}"


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(KANNEL, inbox)) as server:
        yield server


async def replay(server: Server, captured: dict[str, Any], more: str = "") -> Reply:
    """Send a captured request again, to the URL that its smsbox should have been given."""
    query = captured["path"].partition("?")[2]
    headers = {name: value for name, value in captured["headers"] if name.startswith(("Content-T", "X-"))}
    body = captured["body"].encode() or None
    return await server.request(
        "GET" if body is None else "POST", f"{URL}&{query}{more}", data=body, headers=headers
    )


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_captured_get_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    await replay(server, GET)
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("796152f9-1d2e-4313-b245-6064ba283700"),
        kind=EventKind.TEXT,
        body=Phi("Patient+room+12+needs+call"),
        caller=Phi("+15550001111"),
        called=Phi("45678"),
        occurred_at=datetime(2026, 11, 24, 3, 52, 20, tzinfo=UTC),
    )


async def test_kannel_is_answered_with_nothing_that_it_could_send_to_the_patient(server: Server) -> None:
    reply = await replay(server, GET)
    assert (reply.status, reply.text) == (200, "")


async def test_a_captured_emoji_arrives(server: Server, inbox: RememberingInbox) -> None:
    await replay(server, EMOJI)
    assert only(inbox).body == Phi("🚑 café")


async def test_a_captured_text_of_two_parts_is_one_event(server: Server, inbox: RememberingInbox) -> None:
    await replay(server, JOINED)
    assert only(inbox).body == Phi("first half of the message second half")


async def test_a_captured_post_is_taken(server: Server, inbox: RememberingInbox) -> None:
    await replay(server, POST, "&id=1")
    assert (only(inbox).body, only(inbox).caller) == (Phi("PTXT urgent callback"), Phi("+15550004444"))


async def test_sender_and_receiver_may_stand_in_the_headers_of_a_post(
    server: Server, inbox: RememberingInbox
) -> None:
    await replay(server, POST | {"path": "/?"}, "&id=1")
    assert (only(inbox).caller, only(inbox).called) == (Phi("+15550004444"), Phi("45678"))


async def test_captured_xml_is_taken_with_the_sender_from_the_url(
    server: Server, inbox: RememberingInbox
) -> None:
    await replay(server, XML, "&id=1&from=%2B15550004444")
    event = only(inbox)
    assert (event.body, event.caller, event.called) == (
        Phi("XMLP urgent callback"),
        Phi("+15550004444"),
        Phi("45678"),
    )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("text=%D8%3D%DE%91%00+%00c%00a&coding=2&charset=UTF-16BE", "🚑 ca"),
        ("text=%D8%3D%DE%91&coding=2", "🚑"),
        ("text=caf%E9&coding=1&charset=8-BIT", "café"),
        ("text=caf%C3%A9&coding=2&charset=UTF-8", "café"),
        (
            "text=%D8%3D%DE&coding=2",
            "\ud83d".encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace"),
        ),
        ("text=", ""),
    ],
    ids=["UTF-16", "UCS-2 without a charset", "Latin-1", "recoded", "cut in half", "empty"],
)
async def test_a_text_is_read_in_its_own_charset(
    server: Server, inbox: RememberingInbox, query: str, text: str
) -> None:
    await server.request("GET", f"{URL}&id=1&from=72975&{query}")
    assert only(inbox).body == Phi(text)
    assert IntakeEvent.from_seal_form(only(inbox).seal_form()) == only(inbox)


async def test_a_wrong_secret_is_refused(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.request("GET", "/intake/door?secret=wrong&id=1&from=1&text=x")
    assert (reply.status, reply.json["error"]) == (403, "bad_secret")
    assert not inbox.events


async def test_the_secret_that_comes_next_is_taken(server: Server, inbox: RememberingInbox) -> None:
    query = "secret=kannel-secret-that-comes-after-it&id=1&from=72975&text=x"
    assert (await server.request("GET", f"/intake/door?{query}")).status == 200


@pytest.mark.parametrize(("peers", "status"), [("127.0.0.1", 200), ("[10.0.0.0/8, '::/0']", 403)])
async def test_requests_are_taken_from_the_peers_alone(
    inbox: RememberingInbox, peers: str, status: int
) -> None:
    async with running(opened(f"{KANNEL}peers: {peers}", inbox)) as server:
        assert (await replay(server, GET)).status == status


async def test_an_unreadable_request_is_kept_without_its_secret(
    server: Server, inbox: RememberingInbox
) -> None:
    reply = await server.request("POST", f"{URL}&from=1", data=b"no id")
    assert (reply.status, reply.json["error"]) == (400, "unreadable_but_kept")
    [(_, raw, _)] = inbox.unreadable
    assert raw == Phi(b"from=1\nno id")


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE m [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><message><submit><ud>&b;</ud></submit></message>',
        '<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]><message><submit><ud>&a;</ud></submit></message>',
        "<message><submit>",
    ],
)
async def test_xml_with_entities_or_without_an_end_is_not_read(
    server: Server, inbox: RememberingInbox, document: str
) -> None:
    headers = {"Content-Type": "text/xml"}
    await server.request("POST", f"{URL}&id=1&from=72975", data=document, headers=headers)
    assert only(inbox).body == Phi(document)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("0500032a0301", "1/3"),
        ("06080412340402", "2/4"),
        ("0b05040b8423f0" + "0003ff0202", "2/2"),
        ("0500", None),
        ("ff", None),
        ("", None),
    ],
)
def test_a_lone_part_of_a_long_text_is_numbered(header: str, part: str | None) -> None:
    assert _part(bytes.fromhex(header)) == part


@given(st.binary(max_size=140))
def test_no_header_breaks_the_count_of_parts(header: bytes) -> None:
    assert _part(header) is None or "/" in str(_part(header))


async def test_a_lone_part_tells_which_it_is(server: Server, inbox: RememberingInbox) -> None:
    await server.request("GET", f"{URL}&id=1&from=72975&text=x&udh={quote(bytes.fromhex('0500032a0301'))}")
    assert only(inbox).attributes == {"part": Phi("1/3")}
