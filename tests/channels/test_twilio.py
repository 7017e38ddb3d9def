"""A patient's text, as Twilio posts it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from bridge.config.problems import ConfigError
from bridge.config.values import SecretUnreadableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels.signers import AUTH_TOKEN, OLD_AUTH_TOKEN, PUBLIC_URL, twilio_headers
from tests.channels.wire import TWILIO, RememberingInbox, Reply, Server, opened, running

# As Twilio sent it; the numbers and the ids are invented.
TEXT = {
    "ToCountry": "US",
    "SmsMessageSid": "SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "NumMedia": "0",
    "From": "+15550001111",
    "To": "+15554567890",
    "Body": "Need a call back ☎ & more+plus",
    "SmsSid": "SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "MessageSid": "SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "AccountSid": "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "NumSegments": "1",
    "SmsStatus": "received",
    "ApiVersion": "2010-04-01",
}
OTHERS = f"{TWILIO}account_sid: ACcccccccccccccccccccccccccccccccc"
DONE = '<?xml version="1.0" encoding="UTF-8"?><Response/>'


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(TWILIO, inbox)) as server:
        yield server


async def send(server: Server, **fields: str) -> Reply:
    form = TEXT | fields
    return await server.post(urlencode(form), twilio_headers(form))


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_signed_text_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    await send(server)
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        kind=EventKind.TEXT,
        body=Phi("Need a call back ☎ & more+plus"),
        caller=Phi("+15550001111"),
        called=Phi("+15554567890"),
    )
    assert only(inbox).channel == "door"


async def test_twilio_is_answered_with_twiml_that_does_nothing(server: Server) -> None:
    reply = await send(server)
    assert (reply.status, reply.text) == (200, DONE)
    assert reply.headers["Content-Type"].startswith("text/xml")


async def test_a_repeated_text_gets_the_same_answer_and_is_one_event(
    server: Server, inbox: RememberingInbox
) -> None:
    first, second = await send(server), await send(server)
    assert (first.status, first.text) == (second.status, second.text)
    assert len(inbox.events) == 1


async def test_a_text_without_a_signature_is_refused(server: Server, inbox: RememberingInbox) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await server.post(urlencode(TEXT), headers)
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


@pytest.mark.parametrize("field", sorted(TEXT))
async def test_a_text_that_was_changed_on_its_way_is_refused(
    server: Server, inbox: RememberingInbox, field: str
) -> None:
    reply = await server.post(urlencode(TEXT | {field: "changed"}), twilio_headers(TEXT))
    assert reply.status == 403
    assert not inbox.events


async def test_a_text_signed_with_the_token_that_is_being_rotated_out_is_taken(
    server: Server, inbox: RememberingInbox
) -> None:
    reply = await server.post(urlencode(TEXT), twilio_headers(TEXT, token=OLD_AUTH_TOKEN))
    assert reply.status == 200
    assert len(inbox.events) == 1


async def test_a_text_signed_for_another_address_is_refused(server: Server) -> None:
    headers = twilio_headers(TEXT, url="https://elsewhere.example/intake/door")
    assert (await server.post(urlencode(TEXT), headers)).status == 403


async def test_the_query_of_the_address_is_signed_as_it_was_written(server: Server) -> None:
    headers = twilio_headers(TEXT, url=f"{PUBLIC_URL}/intake/door?clinic=n%6Frth")
    assert (await server.post(urlencode(TEXT), headers, "/intake/door?clinic=n%6Frth")).status == 200
    assert (await server.post(urlencode(TEXT), headers, "/intake/door?clinic=south")).status == 403
    assert (await server.post(urlencode(TEXT), headers)).status == 403


async def test_a_signature_over_the_address_with_its_port_is_taken(server: Server) -> None:
    headers = twilio_headers(TEXT, url="https://bridge.example:443/intake/door")
    assert (await server.post(urlencode(TEXT), headers)).status == 200


async def test_a_body_that_is_no_form_is_signed_by_its_hash_and_kept_as_unreadable(
    server: Server, inbox: RememberingInbox
) -> None:
    body = json.dumps({"a": 1, "msg": "ü"})
    path = f"/intake/door?bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
    headers = twilio_headers({}, url=f"{PUBLIC_URL}{path}") | {"Content-Type": "application/json"}
    reply = await server.post(body, headers, path)
    assert (reply.status, reply.json["error"]) == (400, "unreadable_but_kept")
    [(_, raw, _)] = inbox.unreadable
    assert raw == Phi(body.encode())


async def test_a_body_that_is_no_form_and_does_not_fit_its_hash_is_refused(
    server: Server, inbox: RememberingInbox
) -> None:
    path = f"/intake/door?bodySHA256={hashlib.sha256(b'{}').hexdigest()}"
    headers = twilio_headers({}, url=f"{PUBLIC_URL}{path}") | {"Content-Type": "application/json"}
    assert (await server.post('{"changed": true}', headers, path)).status == 403
    assert not inbox.unreadable


@pytest.mark.parametrize("missing", [["MessageSid"], ["From", "Body"]])
async def test_a_signed_request_that_is_no_message_is_kept_and_refused(
    server: Server, inbox: RememberingInbox, missing: list[str]
) -> None:
    form = {name: value for name, value in TEXT.items() if name not in missing}
    reply = await server.post(urlencode(form), twilio_headers(form))
    assert (reply.status, reply.json["error"], reply.json["id"]) == (400, "unreadable_but_kept", "raw-1")
    [(channel, raw, _)] = inbox.unreadable
    assert (channel, raw) == ("door", Phi(urlencode(form).encode()))


@pytest.mark.parametrize("status", ["queued", "sent", "delivered", "undelivered", "failed", "read"])
async def test_the_delivery_status_of_another_message_is_no_page(
    server: Server, inbox: RememberingInbox, status: str
) -> None:
    reply = await send(server, MessageStatus=status, SmsStatus=status)
    assert (reply.status, reply.text) == (200, DONE)
    assert not inbox.events
    assert not inbox.unreadable


async def test_a_text_of_another_account_is_refused_where_the_account_is_configured(
    inbox: RememberingInbox,
) -> None:
    async with running(opened(OTHERS, inbox)) as server:
        reply = await send(server)
        assert (reply.status, reply.json["error"]) == (403, "wrong_account")
        assert (await send(server, AccountSid="ACcccccccccccccccccccccccccccccccc")).status == 200


async def test_pictures_are_counted(server: Server, inbox: RememberingInbox) -> None:
    await send(server, Body="", NumMedia="2")
    assert only(inbox).attributes == {"media_count": Phi("2")}
    assert only(inbox).body == Phi("")


@pytest.mark.parametrize("sender", ["CLINIC-24", "72975"])
async def test_alphanumeric_senders_and_short_codes_stay_as_written(
    server: Server, inbox: RememberingInbox, sender: str
) -> None:
    await send(server, From=sender)
    assert only(inbox).caller == Phi(sender)


async def test_a_withheld_number_is_none(server: Server, inbox: RememberingInbox) -> None:
    await send(server, From="+266696687")
    assert only(inbox).caller is None


async def test_the_name_that_the_sender_goes_by_is_kept(server: Server, inbox: RememberingInbox) -> None:
    await send(server, ProfileName="Renée 🚑")
    assert only(inbox).caller_name == Phi("Renée 🚑")


async def test_right_to_left_text_and_line_breaks_arrive_unchanged(
    server: Server, inbox: RememberingInbox
) -> None:
    body = "\u202bאני צריך עזרה\u202c\r\nعاجل\t\x00"  # noqa: RUF001 - these letters are meant
    await send(server, Body=body)
    assert only(inbox).body == Phi(body)


async def test_bytes_that_are_no_text_do_not_lose_the_message(
    server: Server, inbox: RememberingInbox
) -> None:
    over = b"https://bridge.example/intake/doorBodycaf\xe9From+15550001111MessageSidSM1"
    signature = base64.b64encode(hmac.digest(AUTH_TOKEN.encode(), over, "sha1")).decode()
    body = "From=%2B15550001111&MessageSid=SM1&Body=caf%E9"
    await server.post(body, twilio_headers({}) | {"X-Twilio-Signature": signature})
    assert only(inbox).body == Phi("caf\ufffd")
    assert IntakeEvent.from_seal_form(only(inbox).seal_form()) == only(inbox)


async def test_twilio_hears_that_the_database_is_away(server: Server, inbox: RememberingInbox) -> None:
    inbox.away = True
    reply = await send(server)
    assert (reply.status, reply.json["error"]) == (503, "store_unavailable")
    assert reply.headers["Retry-After"] == "5"


def test_an_unset_token_says_which_variable_to_set(inbox: RememberingInbox) -> None:
    with pytest.raises(SecretUnreadableError, match="NOT_SET"):
        opened("{type: twilio, auth_token: env:NOT_SET}", inbox)


def test_a_token_in_the_file_itself_is_refused_and_not_repeated(inbox: RememberingInbox) -> None:
    with pytest.raises(ConfigError, match="reference") as caught:
        opened(f"{{type: twilio, auth_token: {AUTH_TOKEN}}}", inbox)
    assert AUTH_TOKEN not in str(caught.value)


def test_an_unknown_region_is_refused_with_its_place(inbox: RememberingInbox) -> None:
    with pytest.raises(ConfigError, match=r"nightbell.yaml:2:9: .*two letters"):
        opened("{type: twilio, auth_token: env:TEST_AUTH_TOKEN,\nregion: Texas}", inbox)
