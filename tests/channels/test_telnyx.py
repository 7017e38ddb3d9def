"""A patient's text, as Telnyx posts it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import telnyx
from hypothesis import given
from hypothesis import strategies as st
from telnyx.lib.webhook_verification import verify_webhook_signature

from bridge.channels.channel import Channel, NoSampleError, Probe
from bridge.channels.telnyx import TOLERANCE, TelnyxSettings, sample
from bridge.config.problems import ConfigError
from bridge.model.errors import ReportError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import IntakeId
from bridge.model.phi import Phi
from testbed.process import free_port
from tests.channels.signers import (
    TELNYX_API_KEY,
    TELNYX_NEXT_KEY,
    TELNYX_PUBLIC_KEY,
    TELNYX_TEST_KEY,
    telnyx_headers,
    utc_now,
)
from tests.channels.texting import Api, a_text, serving, text
from tests.channels.wire import TELNYX, RememberingInbox, Reply, Server, opened, running

CAPTURED = json.loads((Path(__file__).parent / "captures" / "telnyx_vonage_standard.json").read_text())[
    "telnyx"
]
BODY: str = CAPTURED["body"]


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(TELNYX, inbox)) as server:
        yield server


async def send(server: Server, **payload: Any) -> Reply:
    document = json.loads(BODY)
    document["data"]["payload"] |= payload
    body = json.dumps(document)
    return await server.post(body, telnyx_headers(body))


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_captured_text_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.post(BODY, telnyx_headers(BODY))
    assert (reply.status, reply.text) == (200, "")
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("84cca175-9755-4859-b67f-4730d7f58aa3"),
        kind=EventKind.TEXT,
        body=Phi("café 🚑"),
        caller=Phi("+15550001111"),
        called=Phi("+15554567890"),
        occurred_at=datetime(2026, 11, 24, 4, tzinfo=UTC),
    )


async def test_the_test_key_signs_nothing_where_there_is_none(inbox: RememberingInbox) -> None:
    headers = telnyx_headers(BODY, key=TELNYX_TEST_KEY)
    async with running(opened(TELNYX.replace("test_key:", "# "), inbox)) as server:
        assert (await server.post(BODY, headers)).status == 403
    async with running(opened(TELNYX, inbox)) as server:
        assert (await server.post(BODY, headers)).status == 200
    with pytest.raises(NoSampleError, match="set this channel's test_key"):
        sample(TelnyxSettings(public_keys=(TELNYX_PUBLIC_KEY,)), Probe("", "", utc_now(), "", ""))


def test_the_captured_key_is_the_one_that_the_tests_sign_with() -> None:
    assert CAPTURED["public_key"] == TELNYX_PUBLIC_KEY


@given(st.text(st.characters(codec="utf-8")))
def test_what_the_tests_sign_is_what_the_sdk_accepts(body: str) -> None:
    verify_webhook_signature(body, telnyx_headers(body), TELNYX_PUBLIC_KEY)


async def test_the_captured_signature_fits_and_is_too_old(server: Server, inbox: RememberingInbox) -> None:
    signed_at = datetime.fromtimestamp(int(CAPTURED["headers"]["telnyx-timestamp"]), UTC)
    assert telnyx_headers(BODY, at=signed_at).items() >= CAPTURED["headers"].items()
    if utc_now() - signed_at > TOLERANCE:
        reply = await server.post(BODY, CAPTURED["headers"])
        assert (reply.status, reply.json["error"]) == (403, "stale_timestamp")
        assert not inbox.events


@pytest.mark.parametrize(("minutes", "status"), [(-6, 403), (-4, 200), (4, 200), (6, 403)])
async def test_a_signature_is_good_for_five_minutes(server: Server, minutes: int, status: int) -> None:
    headers = telnyx_headers(BODY, at=utc_now() + timedelta(minutes=minutes))
    assert (await server.post(BODY, headers)).status == status


async def test_a_text_that_was_changed_on_its_way_is_refused(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.post(BODY.replace("5550001111", "5550002222"), telnyx_headers(BODY))
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


async def test_a_time_that_was_changed_on_its_way_is_refused(server: Server) -> None:
    headers = telnyx_headers(BODY) | {"telnyx-timestamp": str(int(utc_now().timestamp()) + 1)}
    assert (await server.post(BODY, headers)).status == 403


async def test_the_key_that_comes_next_is_taken(server: Server) -> None:
    assert (await server.post(BODY, telnyx_headers(BODY, key=TELNYX_NEXT_KEY))).status == 200


@pytest.mark.parametrize("event_type", ["message.sent", "message.finalized", "call.initiated"])
async def test_other_events_are_no_pages(server: Server, inbox: RememberingInbox, event_type: str) -> None:
    body = BODY.replace("message.received", event_type)
    assert (await server.post(body, telnyx_headers(body))).status == 200
    assert not inbox.events
    assert not inbox.unreadable


async def test_pictures_are_counted(server: Server, inbox: RememberingInbox) -> None:
    await send(server, text=None, media=[{"url": "https://media.example/1"}] * 2)
    assert (only(inbox).body, only(inbox).attributes) == (Phi(""), {"media_count": Phi("2")})
    assert [each.place for each in only(inbox).attachments] == [Phi("https://media.example/1")] * 2


async def test_a_short_code_stays_as_written(server: Server, inbox: RememberingInbox) -> None:
    await send(server, **{"from": {"phone_number": "72975"}})
    assert only(inbox).caller == Phi("72975")


@pytest.mark.parametrize("key", ["secret", "AAAA", TELNYX_PUBLIC_KEY[:-4]])
def test_what_is_no_public_key_is_refused_with_its_place(inbox: RememberingInbox, key: str) -> None:
    with pytest.raises(ConfigError, match=r"nightbell.yaml:1:.*44 characters"):
        opened(f"{{type: telnyx, public_keys: {key}}}", inbox)


def answering(inbox: RememberingInbox, api: str, **around: Any) -> Channel:
    return opened(f"{TELNYX}api_key: env:TEST_TELNYX_API_KEY\napi: {api}\n", inbox, **around)


async def test_a_text_is_answered_as_telnyxs_sdk_would_answer_it(inbox: RememberingInbox) -> None:
    of_sdk: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        of_sdk.append(request)
        return httpx.Response(200, json={"data": {}})

    with httpx.Client(transport=httpx.MockTransport(take)) as client:
        sdk = telnyx.Telnyx(api_key=TELNYX_API_KEY, http_client=client)
        sdk.messages.send(
            to="+12025550100",
            from_="+12025550199",
            text="We have called a doctor.",
            idempotency_key="5" * 32,
        )
    [theirs] = of_sdk
    async with serving(api := Api()) as url:
        assert await text(answering(inbox, url).text)
    [ours] = api.sent
    assert (ours.method, ours.path, ours.body) == (
        theirs.method,
        theirs.url.path,
        json.loads(theirs.content),
    )
    for name in ("Authorization", "Idempotency-Key", "Content-Type", "Accept"):
        assert ours.headers[name] == theirs.headers[name]


@pytest.mark.parametrize(
    ("status", "again"),
    [(0, True), (500, True), (429, True), (503, True), (409, True), (401, False), (422, False)],
)
async def test_an_answer_that_telnyx_did_not_take_is_sent_again_where_that_can_help(
    inbox: RememberingInbox, status: int, *, again: bool
) -> None:
    async with serving(Api([status])) as url:
        with pytest.raises(ReportError) as failed:
            await text(answering(inbox, url).text)
    assert failed.value.retry is again
    assert "+1202555" not in str(failed.value)


async def test_telnyx_away_is_told_again(inbox: RememberingInbox) -> None:
    with pytest.raises(ReportError, match="can't be reached") as failed:
        await text(answering(inbox, f"http://127.0.0.1:{free_port()}").text)
    assert failed.value.retry


@pytest.mark.parametrize(("caller", "called"), [("CLINIC", "+12025550199"), ("+12025550100", None)])
async def test_who_has_no_number_is_not_answered(
    inbox: RememberingInbox, caller: str, called: str | None
) -> None:
    async with serving(api := Api()) as url:
        assert not await text(answering(inbox, url).text, a_text(caller, called))
    assert not api.sent


@pytest.mark.parametrize("with_key", [True, False])
async def test_an_answer_is_asked_for_once_a_text_is_durable_if_it_can_be_sent(
    inbox: RememberingInbox, *, with_key: bool
) -> None:
    asked: list[tuple[int, str]] = []

    async def text_back(event: IntakeEvent, intake: IntakeId) -> None:
        asked.append((len(inbox.events), intake))

    channel = (
        answering(inbox, "http://127.0.0.1:1", text_back=text_back)
        if with_key
        else opened(TELNYX, inbox, text_back=text_back)
    )
    async with running(channel) as server:
        for _ in range(2):
            await server.post(BODY, telnyx_headers(BODY))
    assert asked == ([(1, "0" * 32)] * 2 if with_key else [])
