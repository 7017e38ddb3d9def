"""Loops and commits that serve several events at once have in hand what they open, and then no more."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence

import pytest

from bridge.cli.logs import configure_logging
from bridge.engine.loop import Wake, run_loop
from bridge.model import in_hand
from bridge.model.errors import NightbellError
from bridge.model.phi import Phi
from bridge.store.group_commit import GroupCommit
from bridge.vault import Key, new_key

KEY = new_key("page")
FIRST, OTHER = (KEY.seal(Phi(text.encode()), "it") for text in ("Zobrist in bed 9", "Quixana"))


async def said_by(step: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """What the log holds after a loop has made a few steps."""
    steps = 0
    done = asyncio.Event()

    async def counted() -> float:
        nonlocal steps
        steps += 1
        if steps > 3:
            done.set()
            return 60
        step()
        return 0

    root = logging.getLogger()
    before = root.handlers, root.level
    wake = Wake()
    try:
        configure_logging("info", "json")
        again = lambda _, error: wake.ring() if error else None  # noqa: E731 - without the pause after a failure
        loop = asyncio.create_task(run_loop("test", wake, counted, again))
        await asyncio.wait_for(done.wait(), 10)
        loop.cancel()
    finally:
        root.handlers, root.level = before
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_a_failure_that_repeats_what_a_step_has_opened_is_withheld(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def step() -> None:
        KEY.open(FIRST, "it")
        KEY.open(OTHER, "it")
        raise NightbellError("no room for Zobrist")

    lines = await said_by(step, capsys)
    assert {line["event"] for line in lines} == {"line_withheld"}
    assert "Zobrist" not in json.dumps(lines)


def test_what_stands_in_json_in_a_form_or_in_a_first_line_is_known_as_it_was_meant() -> None:
    head = json.dumps({"place": json.dumps({"name": "Zoë Zobríst"})})
    for content in (
        head,
        f"{head}\nQuixana",
        "From=%2B1+555+810+3746&Body=Zobr%C3%ADst",
        "[" * 50_000 + "Zobríst",
    ):
        with in_hand.hold():
            in_hand.add(content.encode())
            assert in_hand.reveals("Zobríst"), content[:40]


async def test_the_next_step_has_nothing_of_it_in_hand(capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []

    def step() -> None:
        if not opened:
            opened.append(KEY.open(FIRST, "it").reveal().decode())
        else:
            raise NightbellError("a page of Zobrist's, as somebody's room is named")

    lines = await said_by(step, capsys)
    assert {line["event"] for line in lines} == {"loop_step_failed"}


def test_ids_by_which_a_line_is_understood_may_be_said() -> None:
    intake = "0123456789abcdef0123456789abcdef"
    content = {"event_id": "$Abcdefgh12345", "room": "!Somewhere:hospital", "page": intake, "body": "Zobrist"}
    sealed = KEY.seal(Phi(json.dumps(content).encode()), "it")
    with in_hand.hold():
        KEY.open(sealed, "it")
        assert not in_hand.reveals("$Abcdefgh12345", "!Somewhere:hospital", intake)
        assert in_hand.reveals("Zobrist")
    assert not in_hand.reveals("Zobrist")


def test_what_is_opened_where_nothing_is_held_is_kept_nowhere() -> None:
    KEY.open(FIRST, "it")
    assert in_hand.held() == frozenset()


def test_keys_are_no_words() -> None:
    inner = Key("inner", b"Zobrist Zobrist Zobrist Zobrist!")
    with in_hand.hold():
        KEY.unwrap("inner", KEY.wrap(inner))
        assert not in_hand.reveals("Zobrist")


async def test_a_commit_for_several_has_all_of_them_in_hand_and_each_again_its_own() -> None:
    free = asyncio.Event()
    revealed: list[list[bool]] = []

    async def commit(items: Sequence[str]) -> Sequence[bool]:
        await free.wait()
        revealed.append([in_hand.reveals(item) for item in items])
        return revealed[-1]

    commits = GroupCommit(commit)
    words = ["Zobrist", "Quixana", "Lindgren"]

    async def add(word: str) -> list[bool]:
        in_hand.take(word)
        await commits.add(word)
        return [in_hand.reveals(each) for each in words]

    adding = [asyncio.create_task(add(word)) for word in words]
    await asyncio.sleep(0)
    free.set()
    assert await asyncio.gather(*adding) == [[word == own for word in words] for own in words]
    assert all(all(group) for group in revealed)
    assert max(map(len, revealed)) > 1
