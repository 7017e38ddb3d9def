"""Transcription by the real library, with a model that knows no language: nothing is fetched for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.audio import playable
from bridge.config.nightbell import Transcription
from bridge.model.errors import MediaError
from bridge.model.phi import Phi
from bridge.transcription import lacking, prove, transcriber
from testbed.hospital import Hospital
from testbed.process import free_port
from testbed.shift import Shift
from testbed.wards import own_config, write_config
from tests.media.conftest import CAPTURES
from tests.media.listening import mail

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from tests.media.whisper import write_model  # noqa: PLC0415 - the quick tests have no such library

    write_model(tmp_path / "model")
    return tmp_path / "model"


async def spoken() -> Phi[bytes]:
    """A voicemail with somebody's speech, as a room has it."""
    wav49 = await asyncio.to_thread((CAPTURES / "asterisk/voicemail_spool/msg0001.WAV").read_bytes)
    return (await playable(Phi(wav49))).content


async def test_a_voicemail_is_heard_within_its_bounds(model: Path) -> None:
    settings = Transcription(model=model, language="en", timeout=timedelta(minutes=1))
    assert lacking(settings) is None
    await prove(settings)
    said = await transcriber(settings)(await spoken())
    assert said.reveal()


async def test_silence_says_nothing(model: Path) -> None:
    silence = await playable(Phi(await asyncio.to_thread(wav_of_silence)))
    assert await transcriber(Transcription(model=model))(silence.content) == Phi("")


def wav_of_silence() -> bytes:
    samples = bytes(2 * 8000 * 3)
    head = b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = [(1, 2), (1, 2), (8000, 4), (16000, 4), (2, 2), (16, 2)]
    return (
        head
        + b"".join(value.to_bytes(size, "little") for value, size in form)
        + b"data"
        + len(samples).to_bytes(4, "little")
        + samples
    )


async def test_what_is_no_sound_fails_in_its_own_process(model: Path) -> None:
    with pytest.raises(MediaError, match="transcription failed"):
        await transcriber(Transcription(model=model))(Phi(b"no sound"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json"])
@pytest.mark.parametrize("breaks", [cut, Path.unlink], ids=["cut", "gone"])
async def test_a_broken_folder_fails_at_once_and_is_not_mended_from_the_network(
    model: Path, name: str, breaks: Callable[[Path], None]
) -> None:
    breaks(model / name)
    with pytest.raises(MediaError, match="the model can't be loaded"):
        await prove(Transcription(model=model, timeout=timedelta(minutes=1)))


async def test_a_broken_model_is_told_of_at_the_start_and_delays_nothing_and_a_whole_one_is_heard(
    tmp_path: Path, model: Path, voicemail_mail: bytes
) -> None:
    port, weights = free_port(), await asyncio.to_thread((model / "model.bin").read_bytes)
    await asyncio.to_thread(cut, model / "model.bin")
    documents = own_config()
    documents["nightbell.yaml"] |= {"transcription": {"model": str(model), "language": "en"}}
    documents["nightbell.yaml"]["channels"]["mail"] = {
        "type": "smtp",
        "port": port,
        "peers": "127.0.0.1",
        "domains": "pager.example",
        "require_tls": False,
    }
    rule = {"id": "mail", "when": {"channel": "mail"}, "then": {"role": "cardiology"}}
    documents["routing.yaml"]["rules"] = [rule, *documents["routing.yaml"]["rules"]]
    config = write_config(tmp_path / "config", documents)
    async with Hospital(tmp_path, config=config) as hospital, Shift(hospital) as shift:
        okafor, operator = await shift.nio("okafor"), await shift.nio("operator")
        await okafor.entrusted()
        await operator.entrusted()
        await operator.message("recordings are not transcribed (the model can't be loaded")
        await mail(port, voicemail_mail)
        page = await okafor.message("New message 2 in mailbox 100")
        health = await hospital.bridge.health()
        assert health is not None
        assert health["status"] == "ready"
        assert "can't be loaded" in health["parts"]["channel (transcription)"]
        await asyncio.to_thread((model / "model.bin").write_bytes, weights)
        await hospital.bridge.stop()
        await hospital.bridge.start()
        await mail(port, voicemail_mail.replace(b"Message-ID: <", b"Message-ID: <again-"))
        transcript = await okafor.message("Unverified transcript, made by a machine: ", timeout=120)
        assert transcript.room_id == page.room_id
