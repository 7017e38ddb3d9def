"""What is wrong with a request is said to its sender, and what is right about it still reaches a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from testbed.clinician import Clinician
from testbed.hospital import Hospital

# In every body below, and nowhere in a log.
CANARY = "zebrafinch"


@dataclass(frozen=True)
class Reply:
    status: int
    document: Mapping[str, Any]


async def post(hospital: Hospital, channel: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    url = f"{hospital.bridge.base_url}/intake/{channel}"
    async with hospital.session.post(url, data=body, headers=headers) as response:
        assert response.content_type == "application/json"
        return Reply(response.status, await response.json())


async def post_form(hospital: Hospital, fields: Mapping[str, str], signature: str | None = None) -> Reply:
    """A form, as Twilio signs it."""
    url = f"{hospital.bridge.base_url}/intake/clinic-sms"
    signed = RequestValidator(hospital.bridge.twilio_token).compute_signature(url, fields)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    headers["X-Twilio-Signature"] = signed if signature is None else signature
    body = aiohttp.FormData(fields)()
    return await post(hospital, "clinic-sms", body._value, headers)


async def post_json(
    hospital: Hospital, body: str, *, key: str = "msg_1", signature: str | None = None
) -> Reply:
    """JSON, signed per Standard Webhooks."""
    now = datetime.now(UTC)
    signed = Webhook(hospital.bridge.webhook_secret).sign(key, now, body)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed if signature is None else signature,
    }
    return await post(hospital, "events", body.encode(), headers)


TEXT = {"MessageSid": "SM1", "From": "+15550001111", "To": "+15550100400", "Body": CANARY}
EVENT = {"kind": "text", "body": CANARY}


@pytest.mark.parametrize("signature", ["", "bm90IHRoZSByaWdodCBvbmU=", "ÿ", "=" * 5000])
async def test_a_text_with_a_wrong_signature_is_forbidden(hospital: Hospital, signature: str) -> None:
    reply = await post_form(hospital, TEXT, signature)
    assert (reply.status, reply.document["error"]) == (403, "bad_signature")


@pytest.mark.parametrize("signature", ["", "v1,bm90IHRoZSByaWdodCBvbmU=", "v1a,x", "v2," + "=" * 5000])
async def test_an_event_with_a_wrong_signature_is_forbidden(hospital: Hospital, signature: str) -> None:
    reply = await post_json(hospital, json.dumps(EVENT), signature=signature)
    assert (reply.status, reply.document["error"]) == (403, "bad_signature")


@pytest.mark.parametrize("channel", ["clinic-sms", "events"])
async def test_a_request_without_any_signature_is_forbidden(hospital: Hospital, channel: str) -> None:
    reply = await post(hospital, channel, CANARY.encode(), {"Content-Type": "text/plain"})
    assert reply.status == 403


@pytest.mark.parametrize("channel", ["clinic-sms", "events"])
async def test_a_body_that_is_too_large_is_refused_before_it_is_looked_at(
    hospital: Hospital, channel: str
) -> None:
    reply = await post(hospital, channel, CANARY.encode() * 10_000, {"Content-Type": "text/plain"})
    assert (reply.status, reply.document["error"]) == (413, "body_too_large")


async def test_a_signed_text_that_is_none_is_kept_and_shown_to_operations(
    hospital: Hospital, operator: Clinician
) -> None:
    reply = await post_form(hospital, {"Hello": f"{CANARY} and a form that is no message"})
    assert (reply.status, reply.document["error"]) == (400, "unreadable_but_kept")
    shown = await operator.message("form+that+is+no+message", 60)
    assert "could not be read" in shown.body
    assert operator.client.rooms[shown.room_id].name == "Nightbell operations"


@pytest.mark.parametrize(
    "body",
    [
        f'{{"kind": "text", "body": "{CANARY} ends in the midst',
        f'{{"kind": "telegram", "body": "{CANARY} of an unknown kind"}}',
        f'["{CANARY} in a list"]',
        f'{{"kind": "text", "body": {{"{CANARY}": "no string"}}}}',
        f'{{"kind": "text", "body": "{CANARY}", "occurred_at": "{CANARY} is no time"}}',
        f'"{CANARY}"',
    ],
)
async def test_a_signed_event_that_fits_no_schema_is_kept_and_shown_to_operations(
    hospital: Hospital, operator: Clinician, body: str
) -> None:
    reply = await post_json(hospital, body, key=f"msg_{hash(body)}")
    assert (reply.status, reply.document["error"]) == (400, "unreadable_but_kept")
    assert CANARY not in json.dumps(dict(reply.document))
    await operator.message(body, 60)


async def test_the_same_unreadable_request_is_shown_once(hospital: Hospital, operator: Clinician) -> None:
    body = f'{{"{CANARY}": "sent again and again"}}'
    replies = [await post_json(hospital, body, key=f"msg_{number}") for number in range(3)]
    assert len({reply.document["id"] for reply in replies}) == 1
    await post_json(hospital, f'{{"{CANARY}": "the last"}}', key="msg_last")
    await operator.message("the last", 60)
    assert sum("sent again and again" in message.body for message in operator.messages) == 1


@pytest.mark.parametrize(
    "number", ["+15559999999", "12345", "anonymous", "", "+999999999999999999999", "😀", "' OR 1=1 --"]
)
async def test_a_text_to_an_unknown_number_reaches_the_fallback(
    hospital: Hospital, moreau: Clinician, number: str
) -> None:
    words = f"{CANARY} to {number!r}"
    form = TEXT | {"MessageSid": f"SM{number}", "To": number, "Body": words}
    url = f"{hospital.bridge.base_url}/intake/clinic-sms"
    signed = RequestValidator(hospital.bridge.twilio_token).compute_signature(url, form)
    async with hospital.session.post(url, data=form, headers={"X-Twilio-Signature": signed}) as response:
        assert response.status == 200
    message = await moreau.message(words, 60)
    assert moreau.client.rooms[message.room_id].name == "switchboard"


@pytest.mark.parametrize(
    "words",
    [
        "a null \0 and a bell \a",
        "عربى, עברית, 中文, 👩‍⚕️",
        "<script>alert(1)</script> &amp; \"quotes\" 'and' `ticks`",
        "{caller} {0} {body!r} %s %(body)s ${HOME}",
        "line\r\nline\u2028line",
        "\u202e written backwards",
        "* [x](javascript:alert(1)) | ~~a~~",
    ],
    ids=repr,
)
async def test_words_arrive_as_they_were_written(hospital: Hospital, moreau: Clinician, words: str) -> None:
    answer = await hospital.event({"kind": "text", "body": f"{CANARY} {words}"})
    assert answer.accepted
    shown = await moreau.wait_for(lambda: next((m for m in moreau.messages if words in m.body), None), 60)
    assert "<script>" not in shown.content["formatted_body"]


async def test_an_event_as_large_as_is_taken_reaches_a_person(hospital: Hospital, moreau: Clinician) -> None:
    for letter in ("x", "😀"):
        room = 60_000 // len(letter.encode())
        answer = await hospital.event({"kind": "page", "body": f"{CANARY} large {letter * room}"})
        assert answer.accepted
        shown = await moreau.message(f"large {letter * 100}", 60)
        assert "more characters do not fit" in shown.body


async def test_half_a_pair_of_surrogates_breaks_nothing(hospital: Hospital, moreau: Clinician) -> None:
    reply = await post_json(hospital, f'{{"kind": "text", "body": "{CANARY} \\ud83d"}}', key="msg_half")
    assert reply.status in (202, 400)
    await hospital.event({"kind": "text", "body": f"{CANARY} and the next one"})
    await moreau.message("and the next one", 60)


async def test_noise_on_the_line_keeps_nobody_else_from_being_heard(
    hospital: Hospital, moreau: Clinician
) -> None:
    noises = [
        b"\0" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /intake/events HTTP/1.1\r\nContent-Length: 10\r\n\r\nfour",
        b"POST /intake/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS greeting
        f"POST /intake/{CANARY} HTTP/1.1\r\nHost: {CANARY}\r\n{CANARY}: {CANARY}\r\n\r\n".encode(),
    ]
    for noise in noises:
        _, writer = await asyncio.open_connection("127.0.0.1", hospital.bridge.port)
        writer.write(noise)
        await writer.drain()
        writer.close()
    await hospital.event({"kind": "text", "body": f"{CANARY} heard through the noise"})
    await moreau.message("heard through the noise", 60)


async def test_nothing_of_any_body_is_in_the_log_at_its_highest_level(hospital: Hospital) -> None:
    await post_form(hospital, TEXT, "wrong")
    await hospital.event(EVENT)
    log = hospital.bridge.log_path.read_text()
    assert "request_answered" in log
    for secret in (CANARY, "0001111", "SM1", "msg_", hospital.bridge.twilio_token):
        assert secret not in log
