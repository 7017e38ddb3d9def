"""Canaries in every field that a source can fill, through the whole thread, and then nowhere but with their readers."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from testbed.hospital import CARDIOLOGY_LINE, Hospital
from testbed.shift import Shift
from testbed.traces import everything_in, traces
from testbed.wards import own_config, write_config

# In every text; no longer than the longest part of a language tag may be.
CORE = "Qzvkanar"
CALLERS = ("+15558146037", "+15553920718", "+15556475193", "+15552718064")
CALLED = ("+15559360482", "+15554081973")
CANARIES = (CORE, *CALLERS, *CALLED)
HURRIED_LINE = "+15550100111"
HURRIED = [{"after": "1 s", "notify": "again"}, {"after": "1 s", "notify": "operations"}]
HEADERS = {"User-Agent": f"{CORE}/1", "X-Forwarded-For": CALLERS[0], "X-Request-Id": f"{CORE}-request"}


@dataclass
class Told:
    """All that was left behind by the time the story ended, and what its readers saw."""

    places: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)

    def of(self, group: str) -> dict[str, bytes]:
        return {place: content for place, content in self.places.items() if GROUPS[group] in place}


# What a place's name holds that is one of these.
GROUPS = {
    "the bridge's database": "/bridge/nightbell.db",
    "the bridge's crypto store": "/bridge/nightbell-crypto.db",
    "the bridge's log": "/bridge/bridge.log",
    "the homeserver's database": "/synapse/homeserver.db",
    "the homeserver's log": "/synapse/homeserver.log",
    "anything else of the homeserver's": "/synapse/",
    "anything else of the bridge's": "/bridge/",
    "the bridge's health": "GET /health",
    "the bridge's metrics": "GET /metrics",
    "the answers to the sources": "answer to",
}


class CallCenter:
    """Requests that hold canaries wherever a source can put one."""

    def __init__(self, hospital: Hospital, told: Told) -> None:
        self._hospital = hospital
        self._told = told
        self._bridge = hospital.bridge

    async def sms(self, number: int, *, to: str = CARDIOLOGY_LINE, signed: bool = True, **fields: str) -> int:
        form = {
            "MessageSid": f"SM{CORE}{number}",
            "SmsSid": f"SM{CORE}{number}",
            "AccountSid": f"AC{CORE}",
            "From": CALLERS[number % len(CALLERS)],
            "To": to,
            "Body": f"{CORE} text {number}: “ümläut” <b>&amp;</b> 😀",
            "ProfileName": f"{CORE} Zoë",
            "FromCity": CORE.upper(),
            "NumMedia": "0",
            **fields,
        }
        form = {name: value for name, value in form.items() if value}
        url = f"{self._bridge.base_url}/intake/clinic-sms?{CORE}={CORE}"
        token = self._bridge.twilio_token if signed else "wrong"
        signature = RequestValidator(token).compute_signature(url, form)
        return await self.post(url, form, {"X-Twilio-Signature": signature})

    async def event(self, document: Mapping[str, Any], *, signed: bool = True, body: str = "") -> int:
        text = body or json.dumps(document, ensure_ascii=False)
        identity, now = f"{CORE}-{len(self._told.answers)}", datetime.now(UTC)
        secret = self._bridge.webhook_secret if signed else "whsec_d3Jvbmcgd3Jvbmcgd3Jvbmc="
        headers = {
            "Content-Type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(identity, now, text),
        }
        return await self.post(f"{self._bridge.base_url}/intake/events", text.encode(), headers)

    async def post(self, url: str, data: Mapping[str, str] | bytes, headers: Mapping[str, str]) -> int:
        async with self._hospital.session.post(url, data=data, headers={**HEADERS, **headers}) as response:
            self._note(f"{response.status} {response.headers}".encode() + await response.read())
            return response.status

    async def raw(self, request: str) -> None:
        """What is no HTTP, or hardly."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._bridge.port)
        writer.write(request.encode())
        self._note(await asyncio.wait_for(reader.read(), 20))
        writer.close()

    def _note(self, answer: bytes) -> None:
        self._told.answers[f"answer to request {len(self._told.answers)}"] = answer


def full_event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "page",
        "body": f"{CORE} event {number}\nsecond line",
        "caller": {"number": CALLERS[number % len(CALLERS)], "name": f"{CORE} O’Malley"},
        "called": CALLED[0],
        "recipient": "cardiology",
        "queue": f"{CORE} queue",
        "language": f"en-{CORE}",
        "attributes": {f"{CORE}.clinic": f"{CORE} north", "bed": CALLED[1]},
        "unlisted": {CORE: [CORE, CALLERS[1]]},
        **changes,
    }


@pytest.fixture(scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    directory = tmp_path_factory.mktemp("canaries")
    documents = own_config()
    documents["nightbell.yaml"]["logging"]["level"] = "debug"
    rule = {
        "id": "hurried",
        "when": {"called": HURRIED_LINE},
        "then": {"role": "cardiology", "ladder": "hurried"},
    }
    documents["routing.yaml"]["rules"].insert(0, rule)
    documents["routing.yaml"]["ladders"]["hurried"] = {"steps": HURRIED}
    told = Told()
    config = write_config(directory / "config", documents)
    async with Hospital(directory, config=config) as hospital, Shift(hospital) as shift:
        await tell(hospital, shift, CallCenter(hospital, told), told)
        yield told


async def tell(hospital: Hospital, shift: Shift, source: CallCenter, told: Told) -> None:
    people = {name: await shift.nio(name) for name in ("okafor", "moreau", "operator")}
    okafor, moreau, operator = people.values()
    for client in people.values():
        await client.entrusted()

    assert await source.sms(0) == 200
    assert await source.sms(1, to=CALLED[0]) == 200
    assert await source.sms(2, to=HURRIED_LINE) == 200
    assert await source.event(full_event(3)) == 202
    assert (
        await source.event(full_event(4, recipient=f"{CORE} team", occurred_at="2026-11-24T03:12:45Z")) == 202
    )
    assert await source.sms(0) == 200  # a retry

    # Authentic and unreadable: kept, and shown to operations.
    assert await source.sms(5, MessageSid="", SmsSid="") == 400
    assert await source.event({"kind": CORE, "body": f"{CORE} of no kind"}) == 400
    assert await source.event(full_event(6, language=f"{CORE}!", priority=CORE)) == 400
    assert await source.event({}, body=f'{{"{CORE}": ') == 400

    # Refused.
    assert await source.sms(7, signed=False) == 403
    assert await source.event(full_event(8), signed=False) == 403
    assert await source.post(f"{hospital.bridge.base_url}/intake/{CORE}", {CORE: CORE}, {}) == 404
    assert await source.post(f"{hospital.bridge.base_url}/intake/events", CORE.encode() * 10_000, {}) == 413
    for request in (
        f"GET /{CORE} {CORE}\r\n\r\n",
        f"POST /intake/events HTTP/1.1\r\n{CORE} {CALLERS[0]}\r\n\r\n",
        f"{CORE} /intake/events HTTP/1.1\r\nHost: {CORE}\r\nConnection: close\r\n\r\n",
        f"POST /intake/events HTTP/1.1\r\nContent-Length: {CORE}\r\n\r\n{CORE}",
    ):
        await source.raw(request)

    # The homeserver fails in between.
    await okafor.message(f"{CORE} event 3")
    await hospital.synapse.stop()
    assert await source.sms(9) == 200
    async with asyncio.timeout(30):
        while b"send_postponed" not in hospital.bridge.log_path.read_bytes():
            await asyncio.sleep(0.1)
    await hospital.synapse.start()

    # Accepted, answered, closed; and one climbs to the end.
    page = await okafor.message(f"{CORE} text 9")
    await okafor.react(page.event_id, "✅")
    await okafor.wait_for(
        lambda: any("text 9" in m.body and "Accepted by" in m.body for m in okafor.messages)
    )
    await okafor.say(page.room_id, f"{CORE} or what?", in_reply_to=page.event_id)
    await okafor.message("I didn't understand that")
    await okafor.say(page.room_id, f"close {CORE} outcome", in_reply_to=page.event_id)
    await okafor.wait_for(lambda: any("text 9" in m.body and "Closed" in m.body for m in okafor.messages))
    await operator.message("Cardiology on call: a page is not accepted")
    await moreau.message(f"{CORE} event 4")
    await operator.message(f"{CORE} of no kind")

    told.seen = {name: [m.body for m in client.messages] for name, client in people.items()}
    for path in ("/health", "/health/live"):
        async with hospital.session.get(hospital.bridge.base_url + path) as response:
            told.places[f"GET {path}"] = await response.read()
    async with hospital.session.get(f"http://127.0.0.1:{hospital.bridge.metrics_port}/metrics") as response:
        told.places["GET /metrics"] = await response.read()
    told.places |= told.answers
    told.places |= everything_in(hospital.directory / "bridge") | everything_in(
        hospital.directory / "synapse"
    )


def test_the_canaries_came_to_their_readers(told: Told) -> None:
    cardiology, switchboard, operations = ("\n".join(bodies) for bodies in told.seen.values())
    for number in (0, 2, 9):
        assert f"{CORE} text {number}: “ümläut” <b>&amp;</b> 😀" in cardiology
    assert f"{CORE} event 3\nsecond line" in cardiology
    assert f"{CORE} Zoë +1 555-392-0718" in switchboard
    assert f"{CORE} text 1" in switchboard
    assert f"{CORE} O’Malley" in switchboard
    assert operations.count("could not be read") == 4
    assert f"{CORE} outcome" in cardiology


@pytest.mark.parametrize("group", GROUPS)
def test_no_canary_is_in(told: Told, group: str) -> None:
    places = told.of(group)
    assert any(places.values())
    assert traces(CANARIES, places) == []


def test_the_search_would_have_found_one(told: Told, tmp_path: Path) -> None:
    """Once in each kind of place, as a careless line of code would have put it there."""
    log = next(content for place, content in told.places.items() if place.endswith("bridge.log"))
    assert traces(CANARIES, {"log": log + f"… error=ValueError('{CALLERS[0]}')\n".encode()})
    assert traces(CANARIES, {"answer": next(iter(told.answers.values())) + CORE.encode()})
    database = next(Path(place) for place in told.places if place.endswith("/synapse/homeserver.db"))
    for file in database.parent.glob("homeserver.db*"):
        shutil.copy(file, tmp_path)
    with closing(sqlite3.connect(tmp_path / "homeserver.db")) as copy:
        room = copy.execute("SELECT room_id FROM rooms LIMIT 1").fetchone()[0]
        topic = json.dumps({"type": "m.room.topic", "content": {"topic": f"{CORE} called"}})
        row = ("$planted", room, "{}", topic, 3)
        copy.execute("INSERT INTO event_json VALUES (?, ?, ?, ?, ?)", row)
        copy.commit()
    assert traces(CANARIES, everything_in(tmp_path))
    assert traces(CANARIES, {"what she read": json.dumps(told.seen).encode()})
