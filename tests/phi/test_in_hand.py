"""While an event is in hand, nothing that can be read repeats its words or digits."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from bridge.channels.channel import Answer, Request, Route, refusal
from bridge.channels.http import Health, build_application, build_metrics_application, serve
from bridge.channels.meters import Meters
from bridge.cli.logs import configure_logging, withhold
from bridge.matrix.budget import check
from bridge.matrix.homeserver import path
from bridge.model import in_hand
from bridge.model.errors import PlaintextRefusedError
from bridge.model.ids import ChannelId

EVENT = ("Zobrist in bed 7741 asks for Dr. Okafor", "+1 (555) 810-3746")


@pytest.fixture(autouse=True)
def _vocabulary() -> None:
    in_hand.learn("cardiology okafor request_answered status homeserver events outcome accepted 5550100")


@pytest.mark.parametrize(
    "said",
    [
        "about Zobrist",
        "ZOBRIST's",
        "kind=zobrist;",
        "+15558103746",
        "555-810-3746",
        "{'from': 15558103746}",
        "(555) 810 3746",
    ],
)
def test_its_own_words_and_numbers_are_known_however_they_are_written(said: str) -> None:
    with in_hand.hold(*EVENT):
        assert in_hand.reveals(said)
    assert not in_hand.reveals(said)


@pytest.mark.parametrize(
    "said",
    ["Okafor", "cardiology", "bed", "7741", "3746", "1234567", "2026-11-24T03:12:45Z", "$Zobr1st:x", ""],
)
def test_what_others_say_too_may_be_said(said: str) -> None:
    with in_hand.hold(*EVENT):
        assert not in_hand.reveals(said)


def test_numbers_of_the_configuration_may_be_said() -> None:
    with in_hand.hold("call 555 0100 back"):
        assert not in_hand.reveals("+1 555 0100")


async def test_each_task_has_its_own_event_in_hand() -> None:
    async def work(word: str, other: str) -> tuple[bool, bool]:
        in_hand.take(word)
        await asyncio.sleep(0)
        return in_hand.reveals(word), in_hand.reveals(other)

    one, other = await asyncio.gather(work("Quixana", "Zobrist"), work("Zobrist", "Quixana"))
    assert one == other == (True, False)


def test_a_log_line_that_tells_of_it_says_only_that_there_was_one() -> None:
    with in_hand.hold(*EVENT):
        line = withhold(None, "info", {"event": "request_answered", "level": "info", "why": ["Zobrist"]})
        assert line == {"event": "line_withheld", "level": "info", "line": "request_answered"}
        line = withhold(None, "info", {"event": "of Zobrist"})
        assert line == {"event": "line_withheld", "line": ""}
        fine = {"event": "request_answered", "status": 202, "outcome": "accepted"}
        assert withhold(None, "info", dict(fine)) == fine


@pytest.mark.parametrize(
    ("method", "where", "content"),
    [
        ("POST", path("createRoom"), {"name": "For Zobrist", "creation_content": {}}),
        (
            "POST",
            path("createRoom"),
            {"name": "x", "creation_content": {"io.nightbell.destination": "Zobrist"}},
        ),
        ("PUT", path("profile", "@b:x", "displayname"), {"displayname": "Zobrist"}),
        ("PUT", path("devices", "D"), {"display_name": "+15558103746"}),
        ("PUT", path("rooms", "!r", "redact", "$e", "nb-Zobrist"), {}),
    ],
)
def test_the_homeserver_is_told_nothing_of_it(method: str, where: str, content: dict[str, object]) -> None:
    settings = ("encryption", "history_visibility", "join_rules", "guest_access")
    if "name" in content:
        content = {**content, "initial_state": [{"type": f"m.room.{each}"} for each in settings]}
    check(method, where, content)
    with in_hand.hold(*EVENT), pytest.raises(PlaintextRefusedError) as refused:
        check(method, where, content)
    assert "Zobrist" not in str(refused.value)


class Careless:
    """A channel whose refusals repeat what it was sent: of an event, of a stranger's request, and under a 200."""

    id = ChannelId("events")

    @property
    def routes(self) -> list[Route]:
        paths = {"": self.handle, "/stranger": self.refuse, "/wctp": self.refuse_with_200}
        return [Route("POST", f"/intake/events{under}", handle) for under, handle in paths.items()]

    async def handle(self, _: Request) -> Answer:
        in_hand.take(*EVENT)
        return refusal(400, "bad", "can't take Zobrist")

    async def refuse(self, request: Request) -> Answer:
        return refusal(400, "bad", f"can't take {request.body.reveal().decode()}")

    async def refuse_with_200(self, request: Request) -> Answer:
        return Answer("bad", 200, f"can't take {request.target}", refused=True)


async def test_an_http_error_that_repeats_it_is_withheld_and_so_is_a_label() -> None:
    async def health() -> Health:
        raise NotImplementedError

    registry = CollectorRegistry()
    application = build_application([Careless()], health=health, meters=Meters.of(registry))  # type: ignore[list-item]
    odd = Counter("odd", "Odd.", ["outcome"], registry=registry)
    odd.labels("accepted").inc()
    odd.labels("Zobrist").inc()
    async with (
        serve(application, "127.0.0.1", 0) as port,
        serve(build_metrics_application(registry), "127.0.0.1", 0) as metrics_port,
        aiohttp.ClientSession() as session,
    ):
        for target, status in (("", 400), ("/stranger", 400), ("/wctp?from=Zobrist", 200)):
            url = f"http://127.0.0.1:{port}/intake/events{target}"
            async with session.post(url, data=b"Zobrist") as answer:
                assert answer.status == status
                assert await answer.text() == "The bridge's answer repeated what was sent, and is withheld."
        async with session.get(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
            said = await answer.text()
    assert 'odd_total{outcome="accepted"} 1.0' in said
    assert "Zobrist" not in said


def test_a_librarys_line_is_looked_at_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        configure_logging("info", "json")
        with in_hand.hold(*EVENT):
            logging.getLogger("library").warning("it broke at %s", "Zobrist")
            logging.getLogger("library").warning("of Zobrist, %d", 1)
    finally:
        root.handlers, root.level = before
    said = capsys.readouterr().err
    assert "it broke at %s" in said
    assert "line_withheld" in said
    assert "Zobrist" not in said
