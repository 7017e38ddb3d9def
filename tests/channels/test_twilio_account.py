"""Twilio's lists, asked at a server that stands for its REST API."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from twilio.http.response import Response
from twilio.rest import Client

from bridge.channels import twilio_account
from bridge.channels.channel import Recount
from bridge.config.problems import ConfigError
from bridge.model.errors import SourceError
from bridge.model.event import EventKind
from bridge.model.phi import Phi
from tests.channels.signers import AUTH_TOKEN
from tests.channels.wire import TWILIO, RememberingInbox, opened

ACCOUNT = "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
PROOF = base64.b64encode(f"{ACCOUNT}:{AUTH_TOKEN}".encode()).decode()
NUMBER = "+15554567890"
SINCE, UNTIL = datetime(2026, 11, 24, 4, 0, tzinfo=UTC), datetime(2026, 11, 24, 4, 10, tzinfo=UTC)
IN_TIME, LATE = "Tue, 24 Nov 2026 04:05:00 +0000", "Tue, 24 Nov 2026 04:10:01 +0000"
TEXT = {
    "sid": "SM1",
    "direction": "inbound",
    "from": "+15550001111",
    "to": NUMBER,
    "body": "My incision is bleeding",
    "num_media": "0",
    "date_sent": IN_TIME,
    "status": "received",
}
CALL = {
    "sid": "CA1",
    "direction": "inbound",
    "from": "+15550001111",
    "to": NUMBER,
    "status": "no-answer",
    "caller_name": "MARIA LOPEZ",
    "end_time": IN_TIME,
}
RECORDING = {
    "sid": "RE1",
    "call_sid": "CA1",
    "duration": "12",
    "source": "RecordVerb",
    "status": "completed",
    "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Recordings/RE1.json",
}


@dataclass
class FarEnd:
    """Twilio's REST API: its lists, a page of one entry at a time."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Basic {PROOF}":
            return web.json_response({"code": 20003}, status=401)
        if self.answer is not None:
            return web.Response(**self.answer)
        name = request.path.rpartition("/")[2].removesuffix(".json")
        query = dict(parse_qsl(request.raw_path.partition("?")[2]))
        self.asked.append((name, query))
        page, entries = int(query.get("Page", 0)), self.lists.get(name, [])
        more = page + 1 < len(entries)
        following = f"{request.path}?Page={page + 1}&PageToken=PA" if more else None
        return web.json_response({name.lower(): entries[page : page + 1], "next_page_uri": following})


@asynccontextmanager
async def far_end(**lists: list[dict[str, Any]]) -> AsyncIterator[FarEnd]:
    made = FarEnd(lists)
    app = web.Application()
    app.router.add_get("/{rest:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def asking(made: FarEnd, more: str = "") -> Recount:
    section = f"{TWILIO}account_sid: {ACCOUNT}\napi: {made.url}\nreconcile: ['{NUMBER}']\n{more}"
    recount = opened(section, RememberingInbox()).recount
    assert recount is not None
    return recount


async def test_a_text_in_twilios_list_is_the_event_that_its_callback_would_have_been() -> None:
    outbound = TEXT | {"sid": "SM2", "direction": "outbound-api"}
    late = TEXT | {"sid": "SM3", "date_sent": LATE}
    async with far_end(Messages=[outbound, TEXT, late]) as made:
        [event] = await asking(made)(SINCE, UNTIL)
    assert (event.key, event.kind, event.body) == (Phi("SM1"), EventKind.TEXT, Phi(str(TEXT["body"])))
    assert (event.caller, event.called) == (Phi("+15550001111"), Phi(NUMBER))


@pytest.mark.parametrize(
    ("call", "recordings", "kinds"),
    [
        ({}, [], [EventKind.MISSED_CALL]),
        ({"status": "completed"}, [], []),
        ({"status": "completed"}, [RECORDING], [EventKind.VOICEMAIL]),
        ({"status": "completed"}, [RECORDING | {"duration": "0"}], [EventKind.MISSED_CALL]),
        ({"status": "completed"}, [RECORDING | {"source": "DialVerb"}], []),
        ({"status": "completed"}, [RECORDING | {"call_sid": "CA2"}], []),
        ({"direction": "outbound-api"}, [], []),
    ],
)
async def test_a_call_in_twilios_list_is_what_became_of_it(
    call: dict[str, str], recordings: list[dict[str, Any]], kinds: list[EventKind]
) -> None:
    async with far_end(Calls=[CALL | call], Recordings=recordings) as made:
        events = await asking(made)(SINCE, UNTIL)
        place = f"{made.url}/2010-04-01/Accounts/{ACCOUNT}/Recordings/RE1"
    assert [event.kind for event in events] == kinds
    for event in events:
        assert event.key == Phi("CA1")
        if event.kind == EventKind.VOICEMAIL:
            assert [each.place for each in event.attachments] == [Phi(place)]


async def test_it_asks_as_twilios_own_sdk_does() -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    class Noting:
        @staticmethod
        def request(_: str, url: str, params: Mapping[str, Any], **__: Any) -> Response:
            name = urlsplit(url).path.rpartition("/")[2].removesuffix(".json")
            asked.append((name, {key: str(value) for key, value in params.items()}))
            return Response(200, f'{{"{name.lower()}": []}}')

    client = Client(ACCOUNT, AUTH_TOKEN, http_client=Noting())
    client.messages.list(to=NUMBER, date_sent_after=SINCE, page_size=twilio_account.PAGE_SIZE)
    client.calls.list(to=NUMBER, end_time_after=SINCE, page_size=twilio_account.PAGE_SIZE)
    async with far_end() as made:
        await asking(made)(SINCE, UNTIL)
    ours = [
        (name, {key: value for key, value in query.items() if "<" not in key}) for name, query in made.asked
    ]
    assert ours == asked


async def test_the_token_goes_to_no_other_host() -> None:
    async with far_end(Messages=[TEXT]) as made, far_end() as other:
        made.answer = {"text": json.dumps({"messages": [], "next_page_uri": f"{other.url}/x"})}
        with pytest.raises(SourceError):
            await asking(made)(SINCE, UNTIL)
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 401}, "check account_sid and auth_token"),
        ({"status": 429}, "Twilio answers 429"),
        ({"status": 503}, "Twilio answers 503"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "Twilio answers 302"),
        ({"text": "<html>"}, "can't be read"),
        ({"text": "[]"}, "can't be read"),
        ({"body": b" " * 5_000_000}, "is too long"),
    ],
)
async def test_what_is_no_list_is_a_trouble_that_says_what_to_do(
    answer: Mapping[str, Any], words: str
) -> None:
    async with far_end() as made:
        made.answer = answer
        with pytest.raises(SourceError, match=words):
            await asking(made)(SINCE, UNTIL)


async def test_a_twilio_that_is_not_there_is_a_trouble() -> None:
    async with far_end() as made:
        pass
    with pytest.raises(SourceError, match="can't be reached"):
        await asking(made)(SINCE, UNTIL)


def test_it_is_not_asked_without_numbers_and_not_without_an_account(inbox: RememberingInbox) -> None:
    assert opened(f"{TWILIO}account_sid: {ACCOUNT}\n", inbox).recount is None
    with pytest.raises(ConfigError, match="reconcile needs account_sid"):
        opened(f"{TWILIO}reconcile: '{NUMBER}'\n", inbox)
