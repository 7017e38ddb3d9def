"""Telnyx, Vonage and Plivo are asked what came: servers stand for their APIs, and answer as documented."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import plivo
import pytest
import requests
from aiohttp import web
from telnyx import Telnyx
from telnyx.types.detail_record_list_response import MessageDetailRecord

from bridge.channels import plivo_records
from bridge.channels.channel import Recount
from bridge.config.problems import ConfigError
from bridge.model.errors import SourceError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from tests.channels import wire
from tests.channels.signers import AUTH_TOKEN
from tests.channels.test_telnyx import BODY
from tests.channels.wire import PLIVO, TELNYX, VONAGE, RememberingInbox, opened

SINCE, UNTIL = datetime(2026, 11, 24, 4, 0, tzinfo=UTC), datetime(2026, 11, 24, 4, 10, tzinfo=UTC)
NUMBER, CALLER = "+15554567890", "+15550001111"
WORDS = "My incision is bleeding"
ACCOUNT = "MAXXXXXXXXXXXXXXXXXX"

Query = Mapping[str, str]


@dataclass
class FarEnd:
    """A provider's API: what it answers to a path and a query."""

    answer: Callable[[str, Query], Any]
    proof: str
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != self.proof:
            return web.json_response({"error": "no"}, status=401)
        query = dict(parse_qsl(request.raw_path.partition("?")[2]))
        self.asked.append((request.path, query))
        answer = self.answer(request.path, query)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


@asynccontextmanager
async def far_end(answer: Callable[[str, Query], Any], proof: str) -> AsyncIterator[FarEnd]:
    made = FarEnd(answer, proof)
    async with wire.far_end(made.handle, method="GET") as made.url:
        yield made


def asking(section: str, more: str, made: FarEnd, inbox: RememberingInbox | None = None) -> Recount:
    settings = f"{section}{more}api: {made.url}\nreconcile: ['{NUMBER}']\n"
    recount = opened(settings, inbox or RememberingInbox()).recount
    assert recount is not None
    return recount


def basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


# Telnyx

TELNYX_KEY = "api_key: env:TEST_AUTH_TOKEN\n"
BEARER = f"Bearer {AUTH_TOKEN}"
RECEIVED = json.loads(BODY)["data"]["payload"]


def record(uuid: str, at: str = "2026-11-24T04:05:00Z", **more: str) -> dict[str, Any]:
    shape = {"record_type": "message_detail_record", "direction": "inbound", "message_type": "SMS"}
    return (
        shape | {"uuid": uuid, "cli": CALLER, "cld": NUMBER, "created_at": at, "status": "delivered"} | more
    )


def telnyx_api(
    *pages: list[dict[str, Any]], messages: Mapping[str, Any] | None = None
) -> Callable[[str, Query], Any]:
    def answer(path: str, query: Query) -> Any:
        if path.startswith("/v2/messages/"):
            found = (messages or {}).get(path.rpartition("/")[2])
            return {"data": found} if found else web.json_response({"errors": []}, status=404)
        number = int(query["page[number]"])
        data = pages[number - 1] if number <= len(pages) else []
        meta = {"page_number": number, "page_size": 50, "total_pages": len(pages), "total_results": 9}
        return {"data": data, "meta": meta}

    return answer


async def test_a_text_in_telnyx_records_is_the_one_that_its_webhook_would_have_told_of() -> None:
    message = RECEIVED | {
        "id": "m1",
        "text": WORDS,
        "media": [{"url": "https://x/1", "content_type": "image/png"}],
    }
    others = [record("m2", cld="+15559999999"), record("m3", direction="outbound")]
    others += [record("m4", at="2026-11-24T04:10:01Z"), record("m5", at="2026-11-24T03:59:59Z")]
    async with far_end(telnyx_api([record("m1"), *others], messages={"m1": message}), BEARER) as made:
        [event] = await asking(TELNYX, TELNYX_KEY, made)(SINCE, UNTIL)
    assert (event.key, event.kind, event.body) == (Phi("m1"), EventKind.TEXT, Phi(WORDS))
    assert (event.caller, event.called) == (Phi(CALLER), Phi(NUMBER))
    assert [each.place for each in event.attachments] == [Phi("https://x/1")]


async def test_telnyx_is_asked_for_no_message_that_is_known_and_no_page_that_is_too_old() -> None:
    inbox = RememberingInbox()
    known = IntakeEvent(opened(TELNYX, inbox).id, Phi("m1"), EventKind.TEXT, Phi(WORDS))
    await inbox.accept(known)
    old = [record("m0", at="2026-11-24T03:00:00Z")]
    async with far_end(telnyx_api([record("m1")], old, old), BEARER) as made:
        assert await asking(TELNYX, TELNYX_KEY, made, inbox)(SINCE, UNTIL) == []
    assert [(path, query["page[number]"]) for path, query in made.asked] == [
        ("/v2/detail_records", "1"),
        ("/v2/detail_records", "2"),
    ]


async def test_a_text_whose_words_telnyx_has_no_more_is_a_page_and_its_words_are_another() -> None:
    messages: dict[str, Any] = {}
    inbox = RememberingInbox()
    async with far_end(telnyx_api([record("m1")], messages=messages), BEARER) as made:
        recount = asking(TELNYX, TELNYX_KEY, made, inbox)
        [event] = await recount(SINCE, UNTIL)
        assert (event.key, event.caller) == (Phi("m1 without words"), Phi(CALLER))
        assert "look for it in Telnyx's console" in event.body.reveal()
        messages["m1"] = RECEIVED | {"id": "m1", "text": WORDS}
        [event] = await recount(SINCE, UNTIL)
        assert (event.key, event.body) == (Phi("m1"), Phi(WORDS))


async def test_telnyx_is_asked_as_its_own_sdk_does_and_answers_in_its_shape() -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    answer = telnyx_api([record("m1")], messages={"m1": RECEIVED})

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, dict(request.url.params)))
        return httpx.Response(200, json=answer(request.url.path, dict(request.url.params)))

    client = Telnyx(api_key="x", http_client=httpx.Client(transport=httpx.MockTransport(handle)))
    filters: Any = {"record_type": "messaging", "direction": "inbound"}
    filters["created_at"] = {"gte": "2026-11-24", "lt": "2026-11-25"}
    [found] = client.detail_records.list(filter=filters, sort=["-created_at"], page_number=1, page_size=50)
    assert isinstance(found, MessageDetailRecord)
    assert (found.uuid, found.cli, found.cld, found.direction) == ("m1", CALLER, NUMBER, "inbound")
    message = client.messages.retrieve("m1").data
    assert message is not None
    assert (message.direction, message.text) == ("inbound", RECEIVED["text"])
    async with far_end(answer, BEARER) as made:
        await asking(TELNYX, TELNYX_KEY, made)(SINCE, UNTIL)
    assert made.asked == asked


# Vonage

VONAGE_KEY = "api_key: abcd1234\napi_secret: env:TEST_AUTH_TOKEN\n"
MESSAGES_ONLY = VONAGE.replace("sms_api_signature: sha256\n", "")
VONAGE_PROOF = basic("abcd1234", AUTH_TOKEN)


def report(number: int, **more: Any) -> dict[str, Any]:
    """A record as the Reports API has it."""
    return {
        "account_id": "abcd1234",
        "message_id": f"v{number}",
        "direction": "inbound",
        "from": CALLER.removeprefix("+"),
        "to": NUMBER.removeprefix("+"),
        "message_body": WORDS,
        "date_received": "2026-11-24T04:05:00+0000",
        "provider": "sms",
        **more,
    }


def vonage_api(*pages: list[dict[str, Any]]) -> Callable[[str, Query], Any]:
    def answer(path: str, query: Query) -> Any:
        number = int(query.get("cursor", 0))
        links: dict[str, Any] = {"self": {"href": f"https://api.nexmo.com{path}"}}
        more = number + 1 < len(pages)
        if more:
            links["next"] = {"href": f"https://api.nexmo.com{path}?cursor={number + 1}&iv=x"}
        status = "TRUNCATED" if more else "SUCCESS"
        return {"_links": links, "request_status": status, "records": pages[number], "items_count": 1}

    return answer


async def test_a_text_in_vonages_report_is_taken_with_its_words() -> None:
    pages = [report(1), report(2, to="15559999999")], [report(3, message_body="")]
    async with far_end(vonage_api(*pages), VONAGE_PROOF) as made:
        events = await asking(MESSAGES_ONLY, VONAGE_KEY, made)(SINCE, UNTIL)
    assert [(event.key, event.caller, event.called) for event in events] == [
        (Phi("v1"), Phi(CALLER), Phi(NUMBER)),
        (Phi("v3 without words"), Phi(CALLER), Phi(NUMBER)),
    ]
    assert (events[0].body, events[0].occurred_at) == (Phi(WORDS), SINCE + timedelta(minutes=5))
    # The next page is asked for at the address that stands in nightbell.yaml, whatever host Vonage names.
    assert [query.get("cursor") for _, query in made.asked] == [None, "1"]
    assert made.asked[0][1] == {
        "account_id": "abcd1234",
        "product": "MESSAGES",
        "direction": "inbound",
        "date_start": "2026-11-24T04:00:00Z",
        "date_end": "2026-11-24T04:10:01Z",
        "include_message": "true",
    }


async def test_vonage_is_asked_for_no_more_than_a_day_at_once_and_for_the_api_that_tells() -> None:
    async with far_end(vonage_api([]), VONAGE_PROOF) as made:
        await asking(VONAGE, VONAGE_KEY, made)(SINCE - timedelta(days=1), UNTIL)
    spans = [(query["product"], query["date_start"], query["date_end"]) for _, query in made.asked]
    assert spans == [
        ("SMS", "2026-11-23T04:00:00Z", "2026-11-24T04:00:00Z"),
        ("SMS", "2026-11-24T04:00:00Z", "2026-11-24T04:10:01Z"),
    ]


# Plivo

PLIVO_ID = f"auth_id: {ACCOUNT}\n"
PLIVO_PROOF = basic(ACCOUNT, AUTH_TOKEN)


def detail(number: int, **more: str) -> dict[str, str]:
    """A message detail record."""
    return {
        "message_uuid": f"p{number}",
        "message_direction": "inbound",
        "message_state": "delivered",
        "message_time": "2026-11-24 09:35:00+05:30",
        "message_type": "sms",
        "from_number": CALLER.removeprefix("+"),
        "to_number": NUMBER.removeprefix("+"),
        **more,
    }


def plivo_api(*records: dict[str, str]) -> Callable[[str, Query], Any]:
    def answer(path: str, query: Query) -> Any:
        limit, offset = int(query["limit"]), int(query["offset"])
        more = offset + limit < len(records)
        following = f"{path}?limit={limit}&offset={offset + limit}" if more else None
        meta = {
            "limit": limit,
            "offset": offset,
            "next": following,
            "previous": None,
            "total_count": len(records),
        }
        return {"api_id": "x", "meta": meta, "objects": records[offset : offset + limit]}

    return answer


async def test_a_text_of_which_plivo_tells_no_words_is_a_page_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plivo_records, "PAUSE", 0)
    inbox = RememberingInbox()
    known = IntakeEvent(opened(PLIVO, inbox).id, Phi("p1"), EventKind.TEXT, Phi(WORDS))
    await inbox.accept(known)
    others = [detail(number, to_number="15559999999") for number in range(3, 25)]
    async with far_end(plivo_api(detail(1), *others, detail(2)), PLIVO_PROOF) as made:
        [event] = await asking(PLIVO, PLIVO_ID, made, inbox)(SINCE, UNTIL)
    assert (event.key, event.kind) == (Phi("p2 without words"), EventKind.TEXT)
    assert (event.caller, event.called) == (Phi(CALLER), Phi(NUMBER))
    assert event.occurred_at == SINCE + timedelta(minutes=5)
    assert "look for it in Plivo's console" in event.body.reveal()
    assert len(made.asked) == 2


async def test_plivo_is_asked_as_its_own_sdk_does_and_answers_in_its_shape() -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    answer = plivo_api(detail(1))

    class Noting(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
            parts = urlsplit(str(request.url))
            asked.append((parts.path, dict(parse_qsl(parts.query))))
            response = requests.Response()
            response.status_code, response.url = 200, str(request.url)
            response._content = json.dumps(answer(*asked[-1])).encode()
            return response

        def close(self) -> None:
            pass

    with plivo.RestClient(ACCOUNT, AUTH_TOKEN) as client:
        client.session.mount("https://", Noting())
        found = client.messages.list(
            message_direction="inbound",
            message_time__gte="2026-11-24 04:00:00",
            message_time__lte="2026-11-24 04:10:00",
            limit=20,
            offset=0,
        )
    assert [(one.message_uuid, one.from_number) for one in found] == [("p1", CALLER.removeprefix("+"))]
    async with far_end(answer, PLIVO_PROOF) as made:
        await asking(PLIVO, PLIVO_ID, made)(SINCE, UNTIL)
    assert made.asked == asked


# All of them

SECTIONS = [
    (TELNYX, TELNYX_KEY, BEARER),
    (MESSAGES_ONLY, VONAGE_KEY, VONAGE_PROOF),
    (PLIVO, PLIVO_ID, PLIVO_PROOF),
]


@pytest.mark.parametrize(("section", "key", "proof"), SECTIONS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"data": [], "records": [], "objects": []}, None),
        ({}, "can't be read"),
        ({"data": [{}], "records": [{}], "objects": [{}]}, "can't be read"),
        ({"data": "", "records": "", "objects": ""}, "can't be read"),
        ([], "can't be read"),
        (401, "does not let the bridge ask: check "),
        (429, "answers 429"),
        (503, "answers 503"),
    ],
)
async def test_an_answer_that_is_not_as_documented_never_passes_for_nothing_missing(
    section: str, key: str, proof: str, answer: Any, words: str | None
) -> None:
    whole = {"meta": {"next": None, "total_pages": 1}, "request_status": "SUCCESS"}

    def answers(_: str, __: Query) -> Any:
        if isinstance(answer, int):
            return web.json_response({}, status=answer)
        return whole | answer if answer else answer

    async with far_end(answers, proof) as made:
        recount = asking(section, key, made)
        if words is None:
            assert await recount(SINCE, UNTIL) == []
        else:
            with pytest.raises(SourceError, match=words):
                await recount(SINCE, UNTIL)


async def test_a_vonage_report_that_was_not_made_or_is_cut_off_is_a_trouble() -> None:
    for status in ("FAILED", "TRUNCATED"):

        def answer(_: str, __: Query, status: str = status) -> Any:
            return {"request_status": status, "records": []}

        async with far_end(answer, VONAGE_PROOF) as made:
            with pytest.raises(SourceError, match=r"the whole|does not say where"):
                await asking(VONAGE, VONAGE_KEY, made)(SINCE, UNTIL)


@pytest.mark.parametrize("section", [TELNYX, VONAGE, PLIVO])
def test_nobody_is_asked_without_numbers_and_without_a_key(section: str, inbox: RememberingInbox) -> None:
    assert opened(section, inbox).recount is None
    with pytest.raises(ConfigError, match=r"reconcile needs (api_key|auth_id)"):
        opened(f"{section}reconcile: '{NUMBER}'\n", inbox)
    with pytest.raises(ConfigError, match=r"should be a number in E\.164"):
        opened(f"{section}reconcile: '(555) 456-7890'\n", inbox)
