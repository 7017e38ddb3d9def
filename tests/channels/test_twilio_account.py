"""Twilio's lists, asked at a server that stands for its REST API."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web
from twilio.http.response import Response
from twilio.rest import Client

from bridge.channels import twilio_account
from bridge.channels.channel import Channel, Recount
from bridge.config.problems import ConfigError
from bridge.model.attachment import MOST
from bridge.model.errors import MediaError, SourceError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels import wire
from tests.channels.signers import AUTH_TOKEN, PUBLIC_URL, twilio_headers
from tests.channels.wire import TWILIO, RememberingInbox, opened, running

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
    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = None
    missing: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Basic {PROOF}":
            return web.json_response({"code": 20003}, status=401)
        if self.answer is not None:
            return web.Response(**self.answer)
        path = request.path.partition(ACCOUNT)[2].strip("/")
        if path in self.files:
            return web.Response(body=self.files[path], content_type="image/jpeg")
        name = path.rpartition("/")[2].removesuffix(".json")
        query = dict(parse_qsl(request.raw_path.partition("?")[2]))
        if name in self.applications:
            return web.json_response(self.applications[name])
        self.asked.append((path, query))
        if path == self.missing:
            return web.json_response({"code": 20404}, status=404)
        return web.json_response(self.page(request.path, name, query))

    def page(self, path: str, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        page, entries = int(query.get("Page", 0)), self.lists.get(name, [])
        more = page + 1 < len(entries)
        following = f"{path}?Page={page + 1}&PageToken=PA" if more else None
        key = {"Media": "media_list", "IncomingPhoneNumbers": "incoming_phone_numbers"}.get(
            name, name.lower()
        )
        if name == "Media":  # as many as it is asked for
            return {key: entries, "next_page_uri": None}
        if name == "Calls":  # by when they ended, as the query says
            filters = (query.get("EndTime>", ""), query.get("EndTime<", "9"))
            moment = parsedate_to_datetime(IN_TIME).strftime("%Y-%m-%dT%H:%M:%SZ")
            entries = entries if filters[0] <= moment < filters[1] else []
        return {key: entries[page : page + 1], "next_page_uri": following}


@asynccontextmanager
async def far_end(**lists: list[dict[str, Any]]) -> AsyncIterator[FarEnd]:
    made = FarEnd(lists)
    async with wire.far_end(made.handle, method="GET") as made.url:
        yield made


def channel_of(made: FarEnd, more: str = "", inbox: RememberingInbox | None = None) -> Channel:
    section = f"{TWILIO}account_sid: {ACCOUNT}\napi: {made.url}\nreconcile: ['{NUMBER}']\n{more}"
    return opened(section, inbox or RememberingInbox())


def asking(made: FarEnd, more: str = "", inbox: RememberingInbox | None = None) -> Recount:
    recount = channel_of(made, more, inbox).recount
    assert recount is not None
    return recount


async def test_a_text_in_twilios_list_is_the_event_that_its_callback_would_have_been() -> None:
    outbound = TEXT | {"sid": "SM2", "direction": "outbound-api"}
    late = TEXT | {"sid": "SM3", "date_sent": LATE}
    async with far_end(Messages=[outbound, TEXT, late]) as made:
        [event] = await asking(made)(SINCE, UNTIL)
    assert (event.key, event.kind, event.body) == (Phi("SM1"), EventKind.TEXT, Phi(str(TEXT["body"])))
    assert (event.caller, event.called) == (Phi("+15550001111"), Phi(NUMBER))


def picture(number: int) -> dict[str, Any]:
    uri = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM1/Media/ME{number}.json"
    return {"sid": f"ME{number}", "parent_sid": "SM1", "content_type": "image/jpeg", "uri": uri}


async def test_a_text_comes_with_its_pictures_each_of_them_once() -> None:
    async with far_end(Messages=[TEXT | {"num_media": "2"}], Media=[picture(2), picture(1)]) as made:
        made.files = {f"Messages/SM1/Media/ME{number}": f"picture {number}".encode() for number in (1, 2)}
        channel = channel_of(made)
        assert channel.recount is not None
        assert channel.media is not None
        [event] = await channel.recount(SINCE, UNTIL)
        # The text waits for no picture.
        assert not [path for path, _ in made.asked if "Media" in path]
        found = [await channel.media.fetch(each) for each in event.attachments]
        place = f"{made.url}/2010-04-01/Accounts/{ACCOUNT}/Messages/SM1/Media/ME1"
    assert [each.content for each in found] == [Phi(b"picture 1"), Phi(b"picture 2")]
    assert (found[0].type, found[0].place) == ("image/jpeg", Phi(place))
    assert event.attributes["media_count"] == Phi("2")


@pytest.mark.parametrize("listed", [[picture(1)], [{"sid": "ME1"}, {}]])
async def test_a_list_with_too_few_pictures_gives_none_and_is_asked_again(
    listed: list[dict[str, Any]],
) -> None:
    async with far_end(Messages=[TEXT | {"num_media": "2"}], Media=listed) as made:
        channel = channel_of(made)
        assert channel.recount is not None
        assert channel.media is not None
        [event] = await channel.recount(SINCE, UNTIL)
        for each in event.attachments:
            with pytest.raises(MediaError) as trouble:
                await channel.media.fetch(each)
            assert trouble.value.retry


VOICE = "voice: {greeting: Cardiology.}\n"
HERE = f"{PUBLIC_URL}/intake/door"
MENU = f"{HERE}/voice"


@pytest.mark.parametrize(
    ("owned", "kinds"),
    [
        ({"voice_url": MENU}, [EventKind.MISSED_CALL]),
        ({"voice_url": "https://other.example/", "voice_application_sid": "AP1"}, [EventKind.MISSED_CALL]),
        ({"voice_url": "https://other.example/intake/door/voice"}, []),
        ({"voice_url": MENU, "voice_application_sid": "AP2"}, []),
        ({"voice_url": None}, []),
    ],
)
async def test_a_caller_who_hung_up_in_the_menu_is_found(
    owned: dict[str, Any], kinds: list[EventKind]
) -> None:
    completed = CALL | {"status": "completed"}
    async with far_end(Calls=[completed], IncomingPhoneNumbers=[{"phone_number": NUMBER} | owned]) as made:
        made.applications = {"AP1": {"voice_url": MENU}, "AP2": {"voice_url": "https://other.example/"}}
        assert [event.kind for event in await asking(made, VOICE)(SINCE, UNTIL)] == kinds
        assert await asking(made)(SINCE, UNTIL) == []


async def test_what_a_caller_pressed_in_the_menu_counts_for_the_call_that_is_found() -> None:
    form = {"AccountSid": ACCOUNT, "CallSid": "CA1", "Digits": "1", "CallStatus": "in-progress"}
    owned = {"phone_number": NUMBER, "voice_url": MENU}
    async with far_end(Calls=[CALL | {"status": "completed"}], IncomingPhoneNumbers=[owned]) as made:
        channel = channel_of(made, VOICE)
        assert channel.recount is not None
        async with running(channel) as server:
            url = f"{MENU}/message"
            await server.post(
                urlencode(form), twilio_headers(form, url=url), path=url.removeprefix(PUBLIC_URL)
            )
        [event] = await channel.recount(SINCE, UNTIL)
    assert (event.priority, event.attributes["digits"]) == (Priority.STAT, Phi("1"))


def asked_of_us(url: str, **parameters: str) -> dict[str, Any]:
    """An event of a call, as Twilio keeps it: what it asked, and what it was answered."""
    of_call = {"call_sid": "CA1", "from": "+15550001111", "to": NUMBER, "direction": "inbound"}
    request = {
        "method": "POST",
        "url": url,
        "parameters": of_call | {"call_status": "completed"} | parameters,
    }
    return {"request": request, "response": {"response_code": 502, "date_created": IN_TIME}}


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([asked_of_us(HERE, queue_result="hangup", queue_time="42")], [EventKind.ABANDONED_CALL]),
        ([asked_of_us(HERE, dial_call_status="busy")], [EventKind.MISSED_CALL]),
        ([asked_of_us(HERE, dial_call_status="completed"), asked_of_us(HERE)], []),
        ([asked_of_us("https://flow.example/", queue_result="hangup")], []),
        ([{"request": None}, {}], []),
        ([], []),
    ],
)
async def test_a_caller_who_gave_up_is_found_by_what_twilio_tried_to_tell(
    events: list[dict[str, Any]], kinds: list[EventKind]
) -> None:
    async with far_end(Calls=[CALL | {"status": "completed"}], Events=events) as made:
        later = SINCE + twilio_account.EVENTS_AFTER
        found = await asking(made)(later, later + timedelta(minutes=10))
    assert [event.kind for event in found] == kinds
    for event in found:
        assert (event.key, event.caller, event.called) == (Phi("CA1"), Phi("+15550001111"), Phi(NUMBER))
    if EventKind.ABANDONED_CALL in kinds:
        assert found[0].attributes["waited_seconds"] == Phi("42")


async def test_what_twilio_tried_to_tell_is_not_asked_of_a_call_that_is_known_or_that_has_nothing() -> None:
    inbox = RememberingInbox()
    later = SINCE + twilio_account.EVENTS_AFTER
    async with far_end(Calls=[CALL | {"status": "completed"}]) as made:
        made.missing = "Calls/CA1/Events.json"
        recount = asking(made, inbox=inbox)
        assert await recount(later, later + timedelta(minutes=10)) == []
        client, asked = sdk()
        client.calls("CA1").events.list(page_size=twilio_account.PAGE_SIZE)
        assert made.asked[-1:] == asked
        await inbox.accept(IntakeEvent(ChannelId("door"), Phi("CA1"), EventKind.MISSED_CALL, Phi("")))
        await recount(later, later + timedelta(minutes=10))
        assert [path for path, _ in made.asked].count(made.missing) == 1


async def test_a_message_is_found_though_its_call_was_taken_as_one_without_it() -> None:
    inbox = RememberingInbox()
    async with far_end(Calls=[CALL | {"status": "completed"}], Recordings=[RECORDING]) as made:
        recount = asking(made, inbox=inbox)
        [event] = await recount(SINCE, UNTIL)
        assert event.key == Phi("CA1")
        await inbox.accept(replace(event, kind=EventKind.MISSED_CALL))
        [event] = await recount(SINCE, UNTIL)
        assert (event.kind, event.key) == (EventKind.VOICEMAIL, Phi("CA1 message"))


async def test_of_a_calls_recordings_the_message_is_the_longest_that_is_no_conversation() -> None:
    others = [
        RECORDING | {"sid": "RE0", "duration": "90", "source": "DialVerb"},
        RECORDING | {"sid": "RE2", "duration": "3"},
    ]
    call = CALL | {"status": "completed"}
    async with far_end(Calls=[call], Recordings=[*others, RECORDING, *others]) as made:
        [event] = await asking(made)(SINCE, UNTIL)
    assert event.attributes["recording_seconds"] == Phi("12")


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


def sdk() -> tuple[Client, list[tuple[str, dict[str, str]]]]:
    """Twilio's own SDK, and what it asks."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Noting:
        @staticmethod
        def request(_: str, url: str, params: Mapping[str, Any], **__: Any) -> Response:
            path = urlsplit(url).path.partition(ACCOUNT)[2].strip("/")
            asked.append((path, {key: str(value) for key, value in params.items()}))
            return Response(200, '{"entries": []}')

    return Client(ACCOUNT, AUTH_TOKEN, http_client=Noting()), asked


async def test_it_asks_as_twilios_own_sdk_does() -> None:
    client, asked = sdk()
    size = twilio_account.PAGE_SIZE
    client.messages.list(to=NUMBER, date_sent_after=SINCE, page_size=size)
    client.calls.list(to=NUMBER, end_time_after=SINCE, page_size=size)
    client.recordings.list(date_created_after=SINCE - twilio_account.LONGEST_CALL, page_size=size)
    client.incoming_phone_numbers.list(phone_number=NUMBER, page_size=size)
    client.calls.list(to=NUMBER, end_time_after=SINCE - twilio_account.EVENTS_AFTER, page_size=size)
    client.messages("SM1").media.list(page_size=MOST)
    owned = {"phone_number": NUMBER, "voice_url": MENU}
    text = TEXT | {"num_media": "1"}
    lists = {"Messages": [text], "Calls": [CALL], "Media": [picture(1)], "IncomingPhoneNumbers": [owned]}
    async with far_end(**lists) as made:
        made.files = {"Messages/SM1/Media/ME1": b"picture"}
        channel = channel_of(made, VOICE)
        assert channel.recount is not None
        assert channel.media is not None
        event = (await channel.recount(SINCE, UNTIL))[0]
        await channel.media.fetch(event.attachments[0])
    ours = [
        (path, {key: value for key, value in query.items() if "<" not in key}) for path, query in made.asked
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
