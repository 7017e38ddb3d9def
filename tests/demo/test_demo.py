"""The demo as its guests start it: in processes of its own, without a terminal."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import pytest

from demo.panels import SIDE_BY_SIDE
from demo.story import EVENT, GAVE_UP, LEFT_WORD, TEXT
from testbed.bridge import ROOT

PATIENCE = 240


async def start(*words: str, state: Path, **environment: str) -> Process:
    # As wide as the panels still stand below each other, so that a sentence is on one line.
    environment = {**os.environ, "COLUMNS": str(SIDE_BY_SIDE - 1), **environment}
    command = (sys.executable, "-m", "demo", *words, "--state", str(state))
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT
    )


async def ended(process: Process) -> tuple[int | None, str]:
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, output.decode()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


async def test_only_the_clinicians_own_client_shows_the_patients_words(state: Path) -> None:
    code, output = await ended(await start("--once", state=state))
    assert code == 0, output
    panels = output.split("╭─ what ")[1:]
    assert len(panels) == 12, output
    scenes = list(zip(panels[::3], panels[1::3], panels[2::3], strict=True))
    assert ["signature" in sent.lower() for sent, *_ in scenes] == [True, True, False, False]
    for words, (_, stored, read) in zip((TEXT, EVENT["body"], GAVE_UP, LEFT_WORD), scenes, strict=True):
        assert "m.megolm.v1.aes-sha2" in stored
        assert str(words) not in stored
        assert "the words stand 0 times" in stored
        assert str(words) in read
        assert "Accepted by Dr. " in read
    assert output.count(TEXT) == 1
    assert "Abandoned call" in scenes[2][2]
    assert "🔊" in scenes[3][2]
    assert (state / "voicemail.ogg").read_bytes().startswith(b"OggS")


async def test_a_second_run_reuses_everything_and_takes_texts_until_it_is_stopped(state: Path) -> None:
    kept = [state / "bridge/registration.yaml", state / "bridge/recovery_key", state / "synapse/signing.key"]
    before = [file.read_text() for file in kept]
    demo = await start(state=state)
    try:
        async with asyncio.timeout(PATIENCE):
            while not (state / "address").exists():
                assert demo.returncode is None, await ended(demo)
                await asyncio.sleep(0.1)
        code, refused = await ended(await start("--once", state=state))
        assert (code, "already running" in refused) == (1, True)

        words = "Sent from another terminal"
        code, sent = await ended(await start("text", words, state=state))
        assert code == 0, sent
        assert demo.stdout is not None
        shown = b""
        async with asyncio.timeout(PATIENCE):
            while words.encode() not in shown or b"homeserver    http://127.0.0.1:" not in shown:
                shown += await demo.stdout.readline()
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGINT)
        code, rest = await ended(demo)
    assert code == 0, rest
    assert [file.read_text() for file in kept] == before


async def test_without_a_running_demo_a_text_says_how_to_start_one(state: Path) -> None:
    code, output = await ended(await start("text", "Is anybody there?", state=state))
    assert (code, "make demo" in output) == (1, True)


async def test_what_goes_wrong_is_said_and_is_no_success(tmp_path: Path) -> None:
    code, output = await ended(await start("--once", state=tmp_path, NIGHTBELL_LOG_LEVEL="shout"))
    said = " ".join(output.split())  # a long path breaks the line
    assert (code, "nightbell.yaml" in said and '"level" should be' in said) == (1, True), output
