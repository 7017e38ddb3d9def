"""Any other system's event, signed per Standard Webhooks."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from bridge.channels.channel import Request
from bridge.channels.webhook import is_signed, signing_time
from bridge.config.values import SecretUnreadableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels.signers import NEXT_WEBHOOK_SECRET, WEBHOOK_SECRET, webhook_headers
from tests.channels.wire import WEBHOOK, RememberingInbox, Reply, Server, opened, running

PAGE = {"kind": "page", "body": "Bed 12: potassium 6.8"}


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(WEBHOOK, inbox)) as server:
        yield server


async def send(server: Server, event: Any, **signing: Any) -> Reply:
    body = event if isinstance(event, str) else json.dumps(event)
    return await server.post(body, webhook_headers(body, **signing))


async def test_a_signed_event_is_accepted_with_its_intake_id(server: Server) -> None:
    reply = await send(server, PAGE)
    assert (reply.status, reply.json) == (202, {"status": "accepted", "id": "0" * 32})


async def test_every_field_of_an_event_reaches_the_inbox(server: Server, inbox: RememberingInbox) -> None:
    event = {
        "kind": "abandoned_call",
        "body": "waited 4 minutes",
        "caller": {"number": "(555) 000-1111", "name": "Zoë"},
        "called": "+1 555 456 7890",
        "recipient": "cardiology",
        "queue": "heart",
        "language": "es-MX",
        "priority": "stat",
        "occurred_at": "2026-11-24T04:12:45+01:00",
        "attributes": {"clinic": "north"},
    }
    await send(server, event, key="msg_7")
    assert inbox.events == [
        IntakeEvent(
            channel=ChannelId("door"),
            key=Phi("msg_7"),
            kind=EventKind.ABANDONED_CALL,
            body=Phi("waited 4 minutes"),
            caller=Phi("+15550001111"),
            caller_name=Phi("Zoë"),
            called=Phi("+15554567890"),
            recipient=Phi("cardiology"),
            queue=Phi("heart"),
            language="es-MX",
            priority=Priority.STAT,
            occurred_at=datetime(2026, 11, 24, 3, 12, 45, tzinfo=UTC),
            attributes={"clinic": Phi("north")},
        )
    ]


async def test_a_repeated_event_gets_the_same_answer_and_is_one_event(
    server: Server, inbox: RememberingInbox
) -> None:
    first = await send(server, PAGE)
    await send(server, PAGE, key="msg_2")
    again = await send(server, PAGE, at=datetime.now(UTC) + timedelta(seconds=30))
    assert (again.status, again.text) == (first.status, first.text)
    assert len(inbox.events) == 2


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_an_event_without_a_signing_header_is_refused(
    server: Server, inbox: RememberingInbox, missing: str
) -> None:
    headers = webhook_headers(json.dumps(PAGE))
    del headers[missing]
    reply = await server.post(json.dumps(PAGE), headers)
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


@pytest.mark.parametrize(
    "changed", [{"webhook-id": "msg_2"}, {"webhook-signature": "v1,AAAA"}, {"webhook-signature": "v1a,x v1"}]
)
async def test_an_event_with_a_changed_header_is_refused(
    server: Server, inbox: RememberingInbox, changed: dict[str, str]
) -> None:
    reply = await server.post(json.dumps(PAGE), webhook_headers(json.dumps(PAGE)) | changed)
    assert (reply.status, reply.json["error"]) == (403, "bad_signature")
    assert not inbox.events


async def test_an_event_with_a_changed_body_is_refused(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.post('{"kind":"page","body":"changed"}', webhook_headers(json.dumps(PAGE)))
    assert reply.status == 403
    assert not inbox.events


async def test_an_event_signed_with_the_coming_secret_is_taken(server: Server) -> None:
    assert (await send(server, PAGE, secret=NEXT_WEBHOOK_SECRET)).status == 202


async def test_an_event_that_carries_both_signatures_of_a_rotation_is_taken(server: Server) -> None:
    body = json.dumps(PAGE)
    headers = webhook_headers(body)
    headers["webhook-signature"] = "v1,AAAA v1a,BBBB " + headers["webhook-signature"]
    assert (await server.post(body, headers)).status == 202


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_an_event_whose_signature_is_old_or_early_is_refused_with_its_own_reason(
    server: Server, inbox: RememberingInbox, minutes: int
) -> None:
    reply = await send(server, PAGE, at=datetime.now(UTC) + timedelta(minutes=minutes))
    assert (reply.status, reply.json["error"]) == (403, "stale_timestamp")
    assert not inbox.events


@pytest.mark.parametrize("minutes", [-4, 4])
async def test_an_event_within_the_tolerance_is_taken(server: Server, minutes: int) -> None:
    assert (await send(server, PAGE, at=datetime.now(UTC) + timedelta(minutes=minutes))).status == 202


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ("not json", ""),
        ("", ""),
        ('["a list"]', ""),
        ('{"kind": "page", "body": "\\ud800"}', ""),
        ("[" * 10_000, ""),
        ({"body": "no kind"}, "/kind"),
        ({"kind": "fax", "body": ""}, "/kind"),
        ({"kind": "page"}, "/body"),
        (PAGE | {"caller": {"number": 15550001111}}, "/caller/number"),
        (PAGE | {"caller": "+15550001111"}, "/caller"),
        (PAGE | {"priority": "asap"}, "/priority"),
        (PAGE | {"language": "the caller's own words"}, "/language"),
        (PAGE | {"occurred_at": "2026-11-24 04:12"}, "/occurred_at"),
        (PAGE | {"occurred_at": "9999-12-31T23:59:59-23:00"}, "/occurred_at"),
        (PAGE | {"queue": "q" * 256}, "/queue"),
        (PAGE | {"attributes": {"clinic": 5}}, "/attributes"),
        (PAGE | {"attributes": {"a name of the sender": "5"}}, "/attributes"),
        (PAGE | {"attributes": {"_unlisted": "5"}}, "/attributes"),
        (PAGE | {"attributes": {f"n{n}": "" for n in range(33)}}, "/attributes"),
    ],
)
async def test_a_signed_event_that_does_not_fit_is_kept_and_refused_with_the_place_of_the_fault(
    server: Server, inbox: RememberingInbox, event: Any, pointer: str
) -> None:
    reply = await send(server, event)
    assert (reply.status, reply.json["error"], reply.json["pointer"]) == (400, "unreadable_but_kept", pointer)
    assert reply.json["id"] == "raw-1"
    [(_, raw, _)] = inbox.unreadable
    assert raw == Phi((event if isinstance(event, str) else json.dumps(event)).encode())
    assert not inbox.events


async def test_fields_that_the_schema_does_not_list_are_kept_together(
    server: Server, inbox: RememberingInbox
) -> None:
    await send(server, PAGE | {"prio": "hóch", "labs": {"K": 6.8}, "attributes": {"clinic": "north"}})
    assert inbox.events[0].attributes == {
        "clinic": Phi("north"),
        "_unlisted": Phi('{"prio": "hóch", "labs": {"K": 6.8}}'),
    }


async def test_a_sender_hears_that_the_database_is_away(server: Server, inbox: RememberingInbox) -> None:
    inbox.away = True
    reply = await send(server, PAGE)
    assert (reply.status, reply.json["error"], reply.headers["Retry-After"]) == (
        503,
        "store_unavailable",
        "5",
    )


async def test_an_unreadable_event_that_could_not_be_kept_is_not_said_to_be(
    server: Server, inbox: RememberingInbox
) -> None:
    inbox.away = True
    assert (await send(server, "not json")).status == 503


async def test_what_is_signed_and_no_utf_8_is_kept(server: Server, inbox: RememberingInbox) -> None:
    body, now = json.dumps(PAGE).encode("utf-16"), int(datetime.now(UTC).timestamp())
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"msg_1.{now}.".encode() + body, "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}
    reply = await server.post(body, headers)
    assert (reply.status, reply.json["error"]) == (400, "unreadable_but_kept")
    [(_, raw, _)] = inbox.unreadable
    assert raw == Phi(body)


def test_the_published_example_of_a_signature_is_accepted() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    request = Request("/intake/door", headers, Phi(b'{"test": 2432232314}'))
    assert is_signed(request, datetime.fromtimestamp(1614265330, UTC), [secret])


@given(
    st.text(min_size=1),
    st.text(),
    st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "none"]),
    st.text(),
)
def test_whatever_is_taken_the_library_takes_too(key: str, body: str, changed: str, value: str) -> None:
    key, body, value = (each.encode(errors="replace").decode() for each in (key, body, value))
    headers = webhook_headers(body, key=key) | {changed: value}
    request = Request("/intake/door", headers, Phi(body.encode()))
    signed_at = signing_time(request)
    taken = signed_at is not None and is_signed(request, signed_at, [WEBHOOK_SECRET])
    assert taken or changed != "none"
    try:
        Webhook(WEBHOOK_SECRET).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        assert not taken


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64"])
def test_a_secret_that_is_no_base64_is_refused_without_repeating_it(
    inbox: RememberingInbox, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_SECRET", secret)
    with pytest.raises(SecretUnreadableError, match="env:BROKEN_SECRET should be whsec_") as caught:
        opened("{type: webhook, secrets: env:BROKEN_SECRET}", inbox)
    assert secret not in str(caught.value).replace("whsec_ and", "")
