"""The checklist of docs/contributing/adding-a-channel.md, held by every channel there is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from bridge.channels import CHANNEL_TYPES, asterisk, open_channel, read_settings
from bridge.channels.channel import Probe, Request, Surroundings, intake_path
from bridge.channels.http import MAX_BODY
from bridge.channels.tcp import ListenerSettings
from bridge.config.problems import ConfigError
from bridge.config.source import parse_source
from bridge.config.validate import ChannelSection
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi, reveal_optional
from testbed.process import free_port
from tests.channels.parsers import QUICK
from tests.channels.signers import PUBLIC_URL, WEBHOOK_SECRET, utc_now
from tests.channels.wire import SECRETS, RememberingInbox, Reply, Server, opened, running
from tests.channels.wires import CANARY, SECTIONS, TALKS, WIRES, Wire, outcomes
from tests.config.test_documentation import keys

ROOT = Path(__file__).parents[2]

texts = st.text(st.characters(codec="utf-8"))
headers = st.dictionaries(
    st.sampled_from(
        [
            "Content-Type",
            "X-Twilio-Signature",
            "X-Twilio-Webhooks-Signature-Settings",
            "Authorization",
            "X-Plivo-Signature-V3",
            "X-Plivo-Signature-V3-Nonce",
            "telnyx-timestamp",
            "telnyx-signature-ed25519",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ]
    )
    | texts,
    texts
    | st.text(st.characters(codec="utf-8", categories=[], include_characters="v1,= 0"))
    | st.sampled_from(
        [
            "application/x-www-form-urlencoded",
            "application/json",
            "v1,",
            "algorithm=HMAC_SHA256",
            "Bearer a.b.c",
        ]
    )
    | st.integers().map(str)
    | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")),
)


@pytest.fixture(params=sorted(CHANNEL_TYPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(WIRES))
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asterisk, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def server(wire: Wire, inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(wire.section, inbox)) as server:
        yield server


def says(reply: Reply, error: str) -> bool:
    """Whether it is this error, where the answer is in the house's own JSON."""
    in_json = reply.headers["Content-Type"].startswith("application/json")
    return not in_json or (reply.json["error"] == error and "message" in reply.json)


def test_its_page_says_whether_it_can_be_asked_and_its_example_opens(
    name: str, inbox: RememberingInbox
) -> None:
    page = (ROOT / "docs" / "channels" / f"{name}.md").read_text()
    assert [key for key in keys(CHANNEL_TYPES[name].settings, set()) if f"| `{key}` |" not in page] == []
    block, *_ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    source = parse_source(page, block)
    [(channel, section)] = source.value["channels"].items()
    around = Surroundings(inbox, utc_now, PUBLIC_URL)
    secrets = dict.fromkeys(re.findall(r"env:(\w+)", block), WEBHOOK_SECRET)
    with patch.dict(os.environ, secrets):
        made = open_channel(
            ChannelId(channel), ChannelSection(section["type"], source, ("channels", channel), ROOT), around
        )
    assert not made.routes or f"/intake/{channel}" in page
    # Whether its source can be asked what has happened, and what is done about it.
    [first] = re.findall(r"## Proof that nothing was lost\n\n([^.]*)\.", page)
    assert (made.recount is None) == bool(re.search("(is|are) not asked|can't be asked", first))


def test_its_addresses_lie_under_its_own_path(name: str, inbox: RememberingInbox) -> None:
    channel = opened(SECTIONS[name], inbox)
    assert (channel.id, channel.type) == ("door", name)
    for route in channel.routes:
        assert route.path == intake_path(channel.id) or route.path.startswith(f"{intake_path(channel.id)}/")


async def test_a_bare_request_is_refused_and_leaves_nothing(
    wire: Wire, server: Server, inbox: RememberingInbox
) -> None:
    for body in ("", wire.event):
        reply = await server.post(body)
        assert 400 <= wire.status(reply) < 404
    assert not inbox.events
    assert not inbox.unreadable


async def test_an_event_is_taken_once_and_answered_alike_each_time(
    wire: Wire, server: Server, inbox: RememberingInbox
) -> None:
    replies = [await server.send(wire.signed(wire.event)) for _ in range(3)]
    assert len({(reply.status, reply.text) for reply in replies}) == 1
    assert 200 <= wire.status(replies[0]) < 300
    assert len(inbox.events) == 1


async def test_its_answer_says_to_the_sender_of_a_text_what_a_rule_says_if_its_source_passes_that_on(
    wire: Wire, inbox: RememberingInbox
) -> None:
    async def reply(event: IntakeEvent, intake: IntakeId) -> str:
        assert event.body == inbox.events[0].body
        assert intake == "0" * 32
        return "We called <a doctor> & more"

    channel = opened(wire.section, inbox, reply=reply)
    async with running(channel) as server:
        said = [(await server.send(wire.signed(wire.event))).text for _ in range(2)]
    assert said[0] == said[1]
    words = "We called <a doctor> & more"
    assert (words in said[0] or escape(words) in said[0]) == (CHANNEL_TYPES[channel.type].replies is True)


async def test_what_is_authentic_and_no_event_is_kept_and_refused(
    wire: Wire, server: Server, inbox: RememberingInbox
) -> None:
    reply = await server.send(wire.signed(wire.nonsense))
    assert wire.status(reply) == 400
    assert says(reply, "unreadable_but_kept")
    [(channel, raw, reason)] = inbox.unreadable
    assert channel == "door"
    assert wire.nonsense.encode() in raw.reveal()
    assert wire.nonsense not in reason


async def test_too_large_a_body_is_refused(wire: Wire, server: Server, inbox: RememberingInbox) -> None:
    reply = await server.send(replace(wire.signed(wire.event), body=Phi(b"x" * (MAX_BODY + 1))))
    assert reply.status == 413
    assert not inbox.events
    assert not inbox.unreadable


async def test_its_raw_traffic_can_be_listened_to(wire: Wire, inbox: RememberingInbox) -> None:
    heard: list[tuple[str, bytes]] = []

    def tap(_: ChannelId, way: str, raw: Phi[bytes]) -> None:
        heard.append((way, raw.reveal()))

    async with running(opened(wire.section, inbox), app={"tap": tap}) as server:
        await server.send(wire.signed(wire.event))
    assert [way for way, _ in heard] == ["<", ">"]
    assert CANARY.encode() in heard[0][1]


async def test_who_comes_too_often_is_told_when_to_come_again_and_loses_nothing(
    wire: Wire, inbox: RememberingInbox
) -> None:
    async with running(opened(wire.section, inbox), app={"per_minute": 1}) as server:
        await server.post("unsigned")
        reply = await server.send(wire.signed(wire.event))
    assert reply.status == 429
    assert int(reply.headers["Retry-After"]) > 0
    assert not inbox.events


def test_one_that_listens_by_itself_bounds_who_may_come_and_how_often(name: str) -> None:
    kind = CHANNEL_TYPES[name]
    listens = name not in WIRES and name != "asterisk"  # which connects
    assert issubclass(kind.settings, ListenerSettings) == listens


async def test_it_tells_how_it_is_if_it_listens_or_connects_by_itself(
    name: str, inbox: RememberingInbox
) -> None:
    told: asyncio.Queue[str | None] = asyncio.Queue()

    async def tell(_: ChannelId, trouble: str | None) -> None:
        told.put_nowait(trouble)

    channel = opened(SECTIONS[name].replace("PORT", str(free_port())), inbox, tell=tell)
    assert (channel.serve is None) == bool(channel.routes)
    if channel.serve is None:
        return
    serving = asyncio.ensure_future(channel.serve())
    try:
        well = await asyncio.wait_for(told.get(), 10) is None
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    assert well == (name != "asterisk")  # nothing is there to connect to


async def test_the_database_away_is_a_503_that_says_when_to_come_again(
    wire: Wire, server: Server, inbox: RememberingInbox
) -> None:
    inbox.away = True
    for said in (wire.event, wire.nonsense):
        reply = await server.send(wire.signed(said))
        assert wire.status(reply) == 503
        assert says(reply, "store_unavailable")
        assert reply.status != 503 or reply.headers["Retry-After"]


async def test_nothing_that_a_person_wrote_leaves_the_channel_but_as_phi(
    wire: Wire, server: Server, inbox: RememberingInbox, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(_: IntakeEvent) -> None:
        raise RuntimeError(CANARY)

    caplog.set_level(logging.DEBUG)
    sent, said = wire.signed(wire.event), []
    with capture_logs() as logs:
        said.append(await server.send(sent))
        said.append(await server.send(replace(sent, headers={**sent.headers, "X-Caller": CANARY})))
        said.append(await server.post(wire.event, path=f"/intake/door?caller={CANARY}"))
        said.append(await server.post(wire.event, path=f"/intake/{CANARY}"))
        said.append(await server.send(wire.signed(f"{wire.nonsense}&{CANARY}={CANARY}")))
        inbox.accept = crash  # type: ignore[method-assign,assignment]
        said.append(await server.send(sent))
    assert [wire.status(reply) // 100 for reply in said] == [2, 2, 4, 4, 4, 5]
    assert len(logs) >= 6
    metrics = generate_latest(server.registry).decode()
    told = "".join(f"{reply.text}{reply.headers}" for reply in said)
    assert CANARY not in f"{told}{logs}{caplog.text}{metrics}{inbox.events}{inbox.unreadable}"


@pytest.mark.parametrize("name", sorted(WIRES))
async def test_its_sample_is_an_authentic_event(name: str, inbox: RememberingInbox) -> None:
    made = CHANNEL_TYPES[name]
    assert made.sample is not None
    section = ChannelSection(name, parse_source("nightbell.yaml", SECTIONS[name]), (), ROOT)
    said = (f"{PUBLIC_URL}/intake/door", "1a2b", utc_now(), "a test, <please> & ☎", "cardiology")
    probes = [Probe(*said), *(Probe(*said, kind) for kind in made.kinds)]
    with patch.dict(os.environ, SECRETS):
        settings = read_settings(ChannelId("door"), section)
        requests = [made.sample(settings, probe) for probe in probes]
    for request, kind in zip(requests, (made.kinds[0], *made.kinds), strict=True):
        inbox.events.clear()
        async with running(opened(SECTIONS[name], inbox)) as server:
            assert (await server.send(request)).status in (200, 202)
        [event] = inbox.events
        assert event.kind is kind
        if name != "twilio" or kind is EventKind.TEXT:  # a call has no words
            assert event.body == Phi("a test, <please> & ☎")
        assert "cardiology" in (reveal_optional(event.recipient), reveal_optional(event.called))
        if name != "wctp":  # which has no caller
            assert event.caller == Phi("+12025550100")


@pytest.mark.parametrize("name", sorted(WIRES))
@settings(max_examples=QUICK)
@given(texts, headers, st.binary())
async def test_no_request_without_a_signature_gets_in_or_breaks_anything(
    name: str, query: str, sent: dict[str, str], body: bytes
) -> None:
    inbox = RememberingInbox()
    for route in opened(SECTIONS[name], inbox).routes:
        answer = await route.handle(Request(f"{route.path}?{query}", CIMultiDict(sent), Phi(body)))
        assert 400 <= WIRES[name].status(Reply(answer.status, {}, answer.body)) < 404
    assert not inbox.events
    assert not inbox.unreadable


@pytest.mark.parametrize("name", sorted(WIRES))
@settings(max_examples=QUICK)
@given(texts | st.dictionaries(texts, texts).map(urlencode) | st.dictionaries(texts, texts).map(json.dumps))
async def test_no_authentic_request_is_lost(name: str, body: str) -> None:
    wire = WIRES[name]
    for number in range(len(opened(wire.section, RememberingInbox()).routes)):
        inbox = RememberingInbox()
        route = opened(wire.section, inbox).routes[number]
        answer = await route.handle(wire.signed(body))
        status = wire.status(Reply(answer.status, {}, answer.body))
        assert status == 400 or 200 <= status < 300
        assert len(inbox.events) + len(inbox.unreadable) == 1


@pytest.mark.parametrize(
    "words",
    [
        "👩🏽‍⚕️ chest pain 🚑",
        "ألم في الصدر، اتصل بي على 5550001111",
        "כאב בחזה",
        "\u202edrawkcab\u202c, \u2066alone\u2069, \u200fmarked",
        "胸が痛い e\u0301",
    ],
    ids=["emoji", "arabic", "hebrew", "bidi", "combining"],
)
async def test_words_come_in_as_they_were_written(name: str, words: str, inbox: RememberingInbox) -> None:
    assert await outcomes(name, inbox, words, "+15550001111") == ["accepted"]
    assert [event.body.reveal().strip() for event in inbox.events] == [words]


@pytest.mark.parametrize(
    ("caller", "known"),
    [
        ("anonymous", None),
        ("+266696687", None),
        ("Restricted", None),
        ("unknown", None),
        ("CLINIC", "CLINIC"),
        ("+15550001111", "+15550001111"),
    ],
)
async def test_a_withheld_number_is_none_and_a_name_stays_one(
    name: str, caller: str, known: str | None, inbox: RememberingInbox
) -> None:
    if name in WIRES and not WIRES[name].names_callers:
        return
    assert await outcomes(name, inbox, "words", caller) == ["accepted"]
    assert [reveal_optional(event.caller) for event in inbox.events] == [known]


@pytest.mark.parametrize("skew", [timedelta(days=-30), timedelta(days=30)], ids=["slow", "fast"])
async def test_a_bridge_whose_clock_is_wrong_takes_what_signs_no_time(
    name: str, skew: timedelta, inbox: RememberingInbox
) -> None:
    checked = name in WIRES and WIRES[name].clock is not None
    said = await outcomes(name, inbox, "words", "+15550001111", now=lambda: utc_now() + skew)
    assert said == (["stale_timestamp"] if checked else ["accepted"])


async def test_a_signed_time_counts_within_its_bounds(wire: Wire, inbox: RememberingInbox) -> None:
    if wire.clock is None:
        return
    name = opened(wire.section, inbox).type
    old, ahead = wire.clock
    second = timedelta(seconds=30)
    for skew, outcome in (
        (old - second, "accepted"),
        (old + second, "stale_timestamp"),
        (second - ahead, "accepted"),
        (-second - ahead, "stale_timestamp"),
    ):
        inbox.events.clear()
        said = await outcomes(name, inbox, "words", "+15550001111", now=lambda skew=skew: utc_now() + skew)
        assert said == [outcome]


async def test_what_is_said_again_is_taken_once(name: str, inbox: RememberingInbox) -> None:
    noon = utc_now().replace(second=0)
    said = await outcomes(name, inbox, "words", "+15550001111", times=2, now=lambda: noon)
    assert said == ["accepted", "duplicate"]
    assert len(inbox.events) == 1


@pytest.mark.parametrize("name", sorted(TALKS))
async def test_one_that_is_no_http_tells_nobody_what_it_hears(name: str, inbox: RememberingInbox) -> None:
    heard: list[bytes] = []
    with capture_logs() as logs:
        said = await outcomes(
            name, inbox, CANARY, "+15550001111", tap=lambda _, __, raw: heard.append(raw.reveal())
        )
    assert said == ["accepted"]
    assert CANARY.encode() in b"".join(heard)
    assert logs
    assert CANARY not in f"{logs}{inbox.events}"
    assert "5550001111" not in f"{logs}{inbox.events}"


@pytest.mark.parametrize("name", sorted(TALKS))
async def test_one_that_is_no_http_says_that_the_database_is_away(name: str, inbox: RememberingInbox) -> None:
    inbox.away = True
    assert set(await outcomes(name, inbox, "words", "+15550001111")) == {"store_unavailable"}
    assert not inbox.events
    inbox.away = False
    assert await outcomes(name, inbox, "words", "+15550001111") == ["accepted"]


@pytest.mark.parametrize("channel", ["", "Clinic", "a/b", "{x}", "klinik-süd", "-", "x" * 65])
def test_a_name_that_can_not_stand_in_a_url_is_refused(inbox: RememberingInbox, channel: str) -> None:
    with pytest.raises(ConfigError, match="a channel's name is"):
        opened(WIRES["webhook"].section, inbox, name=channel)


def test_an_unknown_type_is_refused_with_the_nearest_known_one(inbox: RememberingInbox) -> None:
    with pytest.raises(ConfigError, match=r'yaml:1:7: unknown type "twillio"; did you mean "twilio"'):
        opened("type: twillio", inbox)
