"""A patient's text, as Vonage's two APIs post it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from vonage_http_client.auth import Auth
from vonage_jwt import verify_signature

from bridge.channels.channel import Request
from bridge.channels.vonage import jwt_time, sms_api_signature
from bridge.model.attachment import Attachment
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels.signers import NEXT_VONAGE_SECRET, VONAGE_SECRET, utc_now, vonage_headers
from tests.channels.wire import VONAGE, RememberingInbox, Reply, Server, opened, running

CAPTURED = json.loads((Path(__file__).parent / "captures" / "telnyx_vonage_standard.json").read_text())[
    "vonage"
]
BODY: str = CAPTURED["body"]
SMS = {
    "msisdn": "15550001111",
    "to": "15554567890",
    "messageId": "0A0000000123ABCD1",
    "text": "Call me & = back ☎",
    "type": "unicode",
    "keyword": "CALL",
    "api-key": "abcd1234",
    "message-timestamp": "2026-11-24 04:00:00",
    "nonce": "ec11dd3e-1e7f-4db5-9467-82b02cd223b9",
}


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(VONAGE, inbox)) as server:
        yield server


async def send(server: Server, **fields: Any) -> Reply:
    body = json.dumps(json.loads(BODY) | fields)
    return await server.post(body, vonage_headers(body))


def signed_sms(
    *, at: datetime | None = None, secret: str = VONAGE_SECRET, method: Any = "sha256", **fields: str
) -> dict[str, str]:
    """The SMS API's fields, with the signature that Vonage's own SDK makes."""
    form = SMS | {"timestamp": str(int((at or utc_now()).timestamp()))} | fields
    auth = Auth(api_key="abcd1234", signature_secret=secret, signature_method=method)
    return form | {"sig": auth.sign_params(dict(form))}


async def post_form(server: Server, fields: dict[str, str]) -> Reply:
    return await server.post(urlencode(fields), {"Content-Type": "application/x-www-form-urlencoded"})


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_captured_text_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.post(BODY, vonage_headers(BODY))
    assert (reply.status, reply.text) == (200, "")
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("aaaa"),
        kind=EventKind.TEXT,
        body=Phi("hi"),
        caller=Phi("+15550001111"),
        called=Phi("+15554567890"),
        occurred_at=datetime(2026, 11, 24, 4, tzinfo=UTC),
    )


def test_the_captured_token_fits() -> None:
    request = Request("/", {"Authorization": CAPTURED["authorization"]}, Phi(BODY.encode()))
    assert jwt_time(request, [CAPTURED["secret"]]) == datetime.fromtimestamp(1795493344, UTC)


@given(st.text(st.characters(codec="utf-8")))
def test_what_the_tests_sign_is_what_the_sdk_accepts(body: str) -> None:
    headers = vonage_headers(body)
    assert verify_signature(headers["Authorization"].removeprefix("Bearer "), VONAGE_SECRET)
    assert jwt_time(Request("/", headers, Phi(body.encode())), ["x" * 32, VONAGE_SECRET])


async def test_a_rightly_signed_token_of_another_body_is_refused(
    server: Server, inbox: RememberingInbox
) -> None:
    reply = await server.post(BODY.replace("hi", "ho"), vonage_headers(BODY))
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


async def test_a_token_that_says_nothing_of_the_body_is_refused(server: Server) -> None:
    for claims in ({"payload_hash": ""}, {"payload_hash": None}, {"iat": None}, {"iat": "soon"}):
        assert (await server.post(BODY, vonage_headers(BODY, **claims))).status == 403


async def test_a_token_of_no_algorithm_is_refused(server: Server) -> None:
    claims = {"iat": int(utc_now().timestamp()), "payload_hash": hashlib.sha256(BODY.encode()).hexdigest()}
    token = jwt.encode(claims, "", algorithm="none")
    assert (await server.post(BODY, {"Authorization": f"Bearer {token}"})).status == 403


async def test_the_secret_that_comes_next_is_taken(server: Server) -> None:
    assert (await server.post(BODY, vonage_headers(BODY, secret=NEXT_VONAGE_SECRET))).status == 200


@pytest.mark.parametrize(("hours", "status"), [(-25, 403), (-23, 200), (0.05, 200), (0.2, 403)])
async def test_a_token_is_good_for_the_day_on_which_vonage_repeats(
    server: Server, hours: float, status: int
) -> None:
    headers = vonage_headers(BODY, at=utc_now() + timedelta(hours=hours))
    assert (await server.post(BODY, headers)).status == status


async def test_the_status_of_another_message_is_no_page(server: Server, inbox: RememberingInbox) -> None:
    assert (await send(server, status="delivered")).status == 200
    assert not inbox.events
    assert not inbox.unreadable


async def test_a_picture_is_counted_and_its_sender_named(server: Server, inbox: RememberingInbox) -> None:
    image = {"url": "https://media.example/1", "caption": "look", "name": "1.jpg"}
    await send(server, message_type="image", text=None, image=image, profile={"name": "Zoë"})
    event = only(inbox)
    assert event.body == Phi("look")
    assert event.attachments == (Attachment(name=Phi("1.jpg"), place=Phi("https://media.example/1")),)
    assert (event.caller_name, event.attributes) == (Phi("Zoë"), {"media_count": Phi("1")})


async def test_a_text_of_the_sms_api_is_taken_as_a_form(server: Server, inbox: RememberingInbox) -> None:
    at = datetime.fromtimestamp(int(utc_now().timestamp()), UTC)
    await post_form(server, signed_sms(at=at))
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("0A0000000123ABCD1"),
        kind=EventKind.TEXT,
        body=Phi("Call me & = back ☎"),
        caller=Phi("+15550001111"),
        called=Phi("+15554567890"),
        occurred_at=at,
    )


async def test_a_text_of_the_sms_api_is_taken_as_json(server: Server, inbox: RememberingInbox) -> None:
    await server.post(json.dumps(signed_sms()), {"Content-Type": "application/json"})
    assert only(inbox).body == Phi("Call me & = back ☎")


@given(st.dictionaries(st.text(max_size=5), st.text()), st.sampled_from(["md5", "sha1", "sha256", "sha512"]))
def test_the_sms_apis_signature_is_the_sdks(fields: dict[str, str], method: Any) -> None:
    fields = {f"x{name}": value for name, value in fields.items()} | {"timestamp": "1"}
    fields = {
        key.encode(errors="replace").decode(): value.encode(errors="replace").decode()
        for key, value in fields.items()
    }
    auth = Auth(api_key="key", signature_secret=VONAGE_SECRET, signature_method=method)
    assert sms_api_signature(fields, method, VONAGE_SECRET) == auth.sign_params(dict(fields))


def test_the_oldest_signature_is_a_plain_hash_with_the_secret_at_its_end() -> None:
    over = f"&a=1_2&b=3{VONAGE_SECRET}".encode()
    fields = {"b": "3", "a": "1&2", "sig": "left out"}
    assert sms_api_signature(fields, "md5hash", VONAGE_SECRET) == hashlib.md5(over).hexdigest()  # noqa: S324


@pytest.mark.parametrize("field", ["msisdn", "to", "messageId", "text", "timestamp", "nonce", "sig"])
async def test_a_text_of_the_sms_api_that_was_changed_on_its_way_is_refused(
    server: Server, inbox: RememberingInbox, field: str
) -> None:
    assert (await post_form(server, signed_sms() | {field: "changed"})).status == 403
    assert not inbox.events


async def test_an_old_text_of_the_sms_api_is_refused(server: Server) -> None:
    reply = await post_form(server, signed_sms(at=utc_now() - timedelta(hours=25)))
    assert reply.json["error"] == "stale_timestamp"


async def test_the_sms_api_is_refused_where_it_is_not_configured(inbox: RememberingInbox) -> None:
    async with running(opened(VONAGE.replace("sms_api_signature: sha256", ""), inbox)) as server:
        assert (await post_form(server, signed_sms())).status == 403


async def test_a_part_of_a_long_text_tells_which_it_is(server: Server, inbox: RememberingInbox) -> None:
    parts: Any = {"concat": "true", "concat-ref": "08B5", "concat-total": "3", "concat-part": "2"}
    await post_form(server, signed_sms(**parts))
    assert only(inbox).attributes == {"part": Phi("2/3")}


async def test_a_binary_message_is_not_lost(server: Server, inbox: RememberingInbox) -> None:
    await post_form(server, signed_sms(type="binary", text="", data="0A0B"))
    assert only(inbox).attributes == {"data": Phi("0A0B")}
