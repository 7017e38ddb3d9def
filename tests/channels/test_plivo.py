"""A patient's text, as Plivo posts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils.signature_v3 import validate_v3_signature

from bridge.channels.channel import Request
from bridge.channels.forms import form_fields
from bridge.channels.plivo import is_signed
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels.signers import AUTH_TOKEN, OLD_AUTH_TOKEN, PUBLIC_URL, plivo_headers
from tests.channels.wire import PLIVO, RememberingInbox, Reply, Server, opened, running

TEXT = {
    "From": "15550001111",
    "To": "15554567890",
    "Text": "Need a call back ☎ & more+plus",
    "MessageUUID": "5b40a428-bfc7-4daf-9d06-726c558bf3b8",
    "Type": "sms",
    "Units": "1",
    "TotalRate": "0",
    "TotalAmount": "0",
    "MessageIntent": "",
}
text = st.text(st.characters(codec="utf-8"))
# Names as Plivo has them: the SDK reads a query with its own rules for anything else.
names = st.from_regex("[A-Za-z]{1,8}", fullmatch=True)
forms = st.dictionaries(names, st.lists(text, min_size=1, max_size=3), max_size=6)
targets = st.sampled_from(["", "?a=b", "?b=2&a=1", "?a=%41&a=+", "?a="])


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(PLIVO, inbox)) as server:
        yield server


async def send(server: Server, **fields: str) -> Reply:
    form = TEXT | fields
    return await server.post(urlencode(form), plivo_headers(form))


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_signed_text_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    reply = await send(server)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/xml; charset=utf-8")
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("5b40a428-bfc7-4daf-9d06-726c558bf3b8"),
        kind=EventKind.TEXT,
        body=Phi("Need a call back ☎ & more+plus"),
        caller=Phi("+15550001111"),
        called=Phi("+15554567890"),
    )


@given(targets, forms, forms)
def test_requests_are_accepted_exactly_when_the_sdk_accepts_them(
    target: str, signed: dict[str, list[str]], sent: dict[str, list[str]]
) -> None:
    url = f"{PUBLIC_URL}/intake/door{target}"
    for form in (signed, sent):
        headers = plivo_headers(signed, url=url)
        nonce, signature = headers["X-Plivo-Signature-V3-Nonce"], headers["X-Plivo-Signature-V3"]
        body = urlencode(form, doseq=True).encode()
        request = Request(f"/intake/door{target}", headers, Phi(body))
        expected = validate_v3_signature("POST", url, nonce, AUTH_TOKEN, signature, dict(form))
        assert is_signed(request, form_fields(request) or [], PUBLIC_URL, [AUTH_TOKEN]) == expected


@pytest.mark.parametrize("field", ["From", "To", "Text", "MessageUUID"])
async def test_a_text_that_was_changed_on_its_way_is_refused(
    server: Server, inbox: RememberingInbox, field: str
) -> None:
    reply = await server.post(urlencode(TEXT | {field: "changed"}), plivo_headers(TEXT))
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


async def test_a_signature_of_another_nonce_is_refused(server: Server) -> None:
    for nonce in ("87654321", ""):
        headers = plivo_headers(TEXT) | {"X-Plivo-Signature-V3-Nonce": nonce}
        assert (await server.post(urlencode(TEXT), headers)).status == 403


async def test_one_of_several_signatures_is_enough(server: Server) -> None:
    headers = plivo_headers(TEXT, token=OLD_AUTH_TOKEN)
    headers["X-Plivo-Signature-V3"] = f"AAAA,{headers['X-Plivo-Signature-V3']}"
    assert (await server.post(urlencode(TEXT), headers)).status == 200


async def test_the_main_account_may_sign_for_its_subaccount(server: Server) -> None:
    headers = plivo_headers(TEXT, header="X-Plivo-Signature-Ma-V3")
    assert (await server.post(urlencode(TEXT), headers)).status == 200


async def test_a_signature_over_the_address_with_its_port_is_taken(server: Server) -> None:
    headers = plivo_headers(TEXT, url="https://bridge.example:443/intake/door")
    assert (await server.post(urlencode(TEXT), headers)).status == 200


async def test_the_delivery_status_of_another_message_is_no_page(
    server: Server, inbox: RememberingInbox
) -> None:
    assert (await send(server, Status="delivered")).status == 200
    assert not inbox.events
    assert not inbox.unreadable


@pytest.mark.parametrize("first", [0, 1])
async def test_every_picture_is_taken_from_whichever_number_plivo_counts(
    server: Server, inbox: RememberingInbox, first: int
) -> None:
    places = [f"https://media.plivo.com/Account/MA1/Media/{number}" for number in range(10)]
    media = {f"Media{number}": place for number, place in enumerate(places, first)}
    await send(server, Text="", Body="look", Type="mms", MediaCount="10", **media)
    assert (only(inbox).body, only(inbox).attributes) == (Phi("look"), {"media_count": Phi("10")})
    assert [each.place for each in only(inbox).attachments] == list(map(Phi, places))


@pytest.mark.parametrize("sender", ["CLINIC-24", "72975"])
async def test_alphanumeric_senders_and_short_codes_stay_as_written(
    server: Server, inbox: RememberingInbox, sender: str
) -> None:
    await send(server, From=sender)
    assert only(inbox).caller == Phi(sender)
