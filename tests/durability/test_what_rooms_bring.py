"""What the homeserver brings is stored once, with the position it was read up to, and without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.matrix.homeserver import connect
from bridge.matrix.sync import Sync
from bridge.model.errors import HomeserverError
from bridge.model.ids import UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database
from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.proxy import Passed, Proxy
from testbed.shift import Shift
from tests.durability.bursts import Burst, Json
from tests.durability.conftest import HEART
from tests.store.conftest import NOW

ROOM = "!room"


class Script:
    """A homeserver that answers from a script, and notes what it was asked for."""

    def __init__(self) -> None:
        self.syncs: list[Json] = []
        self.pages: dict[str, Json] = {}
        self.since: list[str | None] = []
        self.base_url = ""

    @asynccontextmanager
    async def played(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/_matrix/client/v3/sync", self._sync)
        application.router.add_get("/_matrix/client/v3/rooms/{room}/messages", self._messages)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _sync(self, request: web.Request) -> web.Response:
        self.since.append(request.query.get("since"))
        return web.json_response(self.syncs.pop(0))

    async def _messages(self, request: web.Request) -> web.Response:
        page = self.pages.get(request.query["from"])
        return web.json_response(page) if page else web.Response(status=502)


def tap(event: str) -> Json:
    return {
        "event_id": event,
        "sender": "@ann:test",
        "type": "m.reaction",
        "origin_server_ts": 1_700_000_000_000,
        "content": {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$page", "key": "✅"}},
    }


def answer(position: str, *events: Json, gap_from: str | None = None) -> Json:
    timeline = {"events": list(events), "limited": gap_from is not None, "prev_batch": gap_from or ""}
    return {"next_batch": position, "rooms": {"join": {ROOM: {"timeline": timeline}}}}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    yield database
    await database.close()


async def play(script: Script, database: Database, steps: int = 1) -> None:
    """Let the bridge's reader take so many answers."""
    async with (
        script.played(),
        connect(script.base_url, "token", UserId("@bot:test"), timeout=30, concurrency=1) as homeserver,
    ):
        homeserver.become("DEVICE")
        sync = Sync(homeserver, database, lambda: NOW)
        for _ in range(steps):
            await sync.step()


async def stored(database: Database) -> list[str]:
    async with database.read() as connection:
        return [event.event for event in await matrix_inbox.waiting_events(connection, 1000)]


async def position(database: Database) -> str | None:
    async with database.read() as connection:
        return await matrix_inbox.position(connection, "DEVICE")


async def test_words_said_before_the_bot_had_a_device_were_said_to_nobody(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1", tap("$past")), answer("s2", tap("$now"))]
    await play(script, database, 2)
    assert await stored(database) == ["$now"]
    assert script.since == [None, "s1"]


async def test_an_event_that_comes_twice_is_stored_once(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$1"), tap("$1")), answer("s3", tap("$1"), tap("$2"))]
    await play(script, database, 3)
    assert await stored(database) == ["$1", "$2"]


async def test_an_event_that_was_acted_on_is_not_acted_on_when_it_comes_again(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$1"))]
    await play(script, database, 2)
    async with database.write() as connection:
        (event,) = await matrix_inbox.waiting_events(connection, 10)
        await matrix_inbox.settle_event(connection, event.seq, "done")
    script.syncs = [answer("s3", tap("$1"))]
    await play(script, database)
    assert await stored(database) == []


async def test_an_answer_that_can_not_be_stored_leaves_nothing_and_is_asked_for_again(
    database: Database,
) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$1"), {"type": "m.reaction"})]
    with pytest.raises(KeyError):
        await play(script, database, 2)
    assert (await stored(database), await position(database)) == ([], "s1")
    script.syncs = [answer("s2", tap("$1"))]
    await play(script, database)
    assert (await stored(database), await position(database)) == (["$1"], "s2")
    assert script.since == [None, "s1", "s1"]


async def test_a_gap_is_filled_to_its_end_and_in_order(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$6"), gap_from="t3")]
    script.pages = {
        "t3": {"chunk": [tap("$5"), tap("$4")], "end": "t2"},
        "t2": {"chunk": [], "end": "t1"},  # all that was here may be hidden from us
        "t1": {"chunk": [tap("$3"), tap("$2")], "end": "t0"},
        "t0": {"chunk": []},
    }
    await play(script, database, 2)
    assert await stored(database) == ["$2", "$3", "$4", "$5", "$6"]


async def test_a_gap_ends_at_what_is_known_already(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$1")), answer("s3", tap("$4"), gap_from="t2")]
    script.pages = {"t2": {"chunk": [tap("$3"), tap("$2"), tap("$1")], "end": "all that was before"}}
    await play(script, database, 3)
    assert await stored(database) == ["$1", "$2", "$3", "$4"]


async def test_a_homeserver_that_gives_the_same_page_for_ever_ends_the_gap(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$2"), gap_from="t1")]
    script.pages = {"t1": {"chunk": [tap("$1")], "end": "t1"}}
    await play(script, database, 2)
    assert await stored(database) == ["$1", "$2"]


async def test_a_gap_that_can_not_be_filled_yet_moves_the_position_nowhere(database: Database) -> None:
    script = Script()
    script.syncs = [answer("s1"), answer("s2", tap("$9"), gap_from="lost")]
    with pytest.raises(HomeserverError):
        await play(script, database, 2)
    assert (await stored(database), await position(database)) == ([], "s1")


async def test_every_accept_counts_in_a_gap_of_more_than_a_hundred_events(
    hospital: Hospital, shift: Shift
) -> None:
    okafor, lindqvist = await shift.nio("okafor"), await shift.nio("lindqvist")
    burst = Burst(hospital, okafor, 5, HEART.number)
    await burst.send()
    await burst.arrive()
    pages = [message for message in okafor.messages if burst.mark in message.body]
    await hospital.bridge.kill()
    for page in pages:
        await okafor.react(page.event_id, "✅")
        await talk(lindqvist, page.room_id, 60)
    await hospital.bridge.start()
    await all_accepted(burst)


async def test_an_answer_that_the_bridge_dies_of_is_taken_in_its_next_life(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    okafor = await shift.nio("okafor")
    burst = Burst(hospital, okafor, 3, HEART.number)
    await burst.send()
    await burst.arrive()
    told = asyncio.Event()
    taps: list[str] = []

    async def give_and_kill(request: Passed) -> bool:
        if request.path.endswith("/sync") and any(tap.encode() in request.answer for tap in taps):
            told.set()
        return True

    proxy.after = give_and_kill
    for number, message in enumerate([m for m in okafor.messages if burst.mark in m.body]):
        told.clear()
        taps.append(await okafor.react(message.event_id, "✅"))
        await told.wait()
        await asyncio.sleep(0.004 * number)  # into the midst of what the bridge makes of it
        await hospital.bridge.kill()
        await hospital.bridge.start()
    await all_accepted(burst)


async def talk(person: Clinician, room: str, times: int) -> None:
    await asyncio.gather(*(person.say(room, f"and then {number}") for number in range(times)))


async def all_accepted(burst: Burst) -> None:
    def accepted() -> Iterable[Any]:
        return [m for m in burst.reader.messages if burst.mark in m.body and "Accepted by" in m.body]

    await burst.reader.wait_for(lambda: len(list(accepted())) == burst.size, 60)
