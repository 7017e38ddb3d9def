"""A patient's text, as Vonage's two APIs post it."""

from __future__ import annotations

import asyncio
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
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from vonage_http_client import HttpClient
from vonage_http_client.auth import Auth
from vonage_jwt import verify_signature
from vonage_messages import Messages
from vonage_messages.models import Sms

from bridge.channels.channel import Channel, Request
from bridge.channels.vonage import jwt_time, sms_api_signature
from bridge.config.values import SecretUnreadableError
from bridge.model.attachment import Attachment
from bridge.model.errors import ReportError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import IntakeId
from bridge.model.phi import Phi
from tests.channels.signers import NEXT_VONAGE_SECRET, VONAGE_SECRET, utc_now, vonage_headers
from tests.channels.texting import Api, serving, text
from tests.channels.wire import VONAGE, RememberingInbox, Reply, Server, opened, running

CAPTURED = json.loads((Path(__file__).parent / "captures" / "telnyx_vonage_standard.json").read_text())[
    "vonage"
]
BODY: str = CAPTURED["body"]
APPLICATION = "78d335fa-323d-0114-9c3d-d6f0d48968cf"
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


@pytest.fixture(scope="module")
def private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of an application, as Vonage hands it out."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("vonage") / "private.key"
    file.write_bytes(pem)
    return file


def answering(inbox: RememberingInbox, api: str, key: Path, **around: Any) -> Channel:
    application = f"application: {{id: {APPLICATION}, private_key: 'file:{key}'}}"
    return opened(f"{VONAGE}{application}\napi: {api}\n", inbox, **around)


class OfSdk(HTTPAdapter):
    """Keeps what Vonage's SDK sends, and takes it."""

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        self.sent = request
        response = Response()
        response.status_code, response._content = 202, b'{"message_uuid": "1"}'
        return response


def of_sdk(key: Path) -> PreparedRequest:
    """How Vonage's SDK answers the text."""
    client = HttpClient(Auth(application_id=APPLICATION, private_key=key.read_text()))
    client._session.mount("https://", wire := OfSdk())
    words = "We have called a doctor."
    Messages(client).send(Sms(to="12025550100", from_="12025550199", text=words, client_ref="5" * 32))
    return wire.sent


def claims_of(authorization: str | bytes, key: Path) -> dict[str, Any]:
    """What a token says that this key has signed."""
    scheme, token = (authorization if isinstance(authorization, str) else authorization.decode()).split()
    public: Any = serialization.load_pem_private_key(key.read_bytes(), None).public_key()
    claims: dict[str, Any] = jwt.decode(token, public, ["RS256"])
    return claims | {"scheme": scheme}


async def test_a_text_is_answered_as_vonages_sdk_would_answer_it(
    inbox: RememberingInbox, private_key: Path
) -> None:
    theirs = await asyncio.to_thread(of_sdk, private_key)
    async with serving(api := Api()) as url:
        assert await text(answering(inbox, url, private_key).text)
    [ours] = api.sent
    assert isinstance(theirs.body, bytes)
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path_url, json.loads(theirs.body))
    assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]
    said, expected = (claims_of(request.headers["Authorization"], private_key) for request in (ours, theirs))
    assert said.keys() == expected.keys()
    for claim in ("scheme", "application_id"):
        assert said[claim] == expected[claim]
    assert said["exp"] - said["iat"] == expected["exp"] - expected["iat"]


@pytest.mark.parametrize(
    ("status", "again"), [(0, False), (500, False), (429, True), (503, True), (401, False), (422, False)]
)
async def test_an_answer_of_which_vonage_may_have_sent_one_is_not_sent_again(
    inbox: RememberingInbox, private_key: Path, status: int, *, again: bool
) -> None:
    async with serving(Api([status])) as url:
        with pytest.raises(ReportError) as failed:
            await text(answering(inbox, url, private_key).text)
    assert failed.value.retry is again
    assert ("not known" in str(failed.value)) is (status in (0, 500))


def test_a_private_key_that_is_none_is_refused(inbox: RememberingInbox, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello")
    with pytest.raises(SecretUnreadableError, match="should hold the application's private key, in PEM"):
        answering(inbox, "https://api.nexmo.com", tmp_path / "key")


@pytest.mark.parametrize(("service", "asked"), [("sms", 1), ("mms", 1), ("whatsapp", 0)])
async def test_a_text_that_came_by_sms_is_answered_and_a_chat_is_not(
    inbox: RememberingInbox, private_key: Path, service: str, asked: int
) -> None:
    told: list[IntakeId] = []

    async def text_back(_event: IntakeEvent, intake: IntakeId) -> None:
        told.append(intake)

    async with running(answering(inbox, "https://x.example", private_key, text_back=text_back)) as server:
        await send(server, channel=service)
    assert len(told) == asked
    [event] = inbox.events
    assert event.attributes.get("service") == (None if asked else Phi(service))
