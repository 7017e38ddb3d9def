"""What ffmpeg is let do with a recording that somebody left."""

from __future__ import annotations

import asyncio
import io
import wave
from pathlib import Path

import pytest

from bridge import audio
from bridge.audio import playable
from bridge.model.errors import MediaError
from bridge.model.phi import Phi
from tests.media.listening import played


def wav(seconds: float, level: int = 8000) -> Phi[bytes]:
    """A square tone; silent in its first half."""
    half = round(4000 * seconds)
    with wave.open(file := io.BytesIO(), "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(bytes(2 * half))
        tone = b"".join(
            (level if n % 16 < 8 else -level).to_bytes(2, "little", signed=True) for n in range(half)
        )
        written.writeframes(tone)
    return Phi(file.getvalue())


async def test_the_waveform_is_as_loud_as_the_recording(tmp_path: Path) -> None:
    made = await playable(wav(2))
    assert made.milliseconds == pytest.approx(2000, abs=50)
    assert max(made.waveform[:45]) < 50
    assert min(made.waveform[55:]) > 900
    assert float(played(made.content.reveal(), tmp_path)["format"]["duration"]) == pytest.approx(2, abs=0.05)


async def test_a_recording_of_nothing_has_no_length() -> None:
    assert (await playable(wav(0))).milliseconds == 0
    assert (await playable(Phi(b""))).milliseconds == 0


async def test_one_that_is_too_long_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the thread as it came, which says so: half a message could be taken for the whole."""
    monkeypatch.setattr(audio, "MONO", (*audio.MONO[:-1], "2"))
    monkeypatch.setattr(audio, "LONGEST_SECONDS", 1)
    assert (await playable(wav(1))).milliseconds == 1000
    with pytest.raises(MediaError, match="longer than 0 minutes"):
        await playable(wav(3))


@pytest.mark.parametrize(
    "content",
    [
        b"no sound",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
)
async def test_what_is_no_recording_is_read_as_none(content: bytes) -> None:
    with pytest.raises(MediaError, match="can't read it as sound"):
        await playable(Phi(content))


async def test_a_missing_ffmpeg_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "FFMPEG", ("ffmpeg-that-is-not-there",))
    with pytest.raises(MediaError, match="apt-get install ffmpeg"):
        await playable(wav(1))


async def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "FFMPEG", ("sh", "-c", "exec sleep 60", "sh"))
    monkeypatch.setattr(audio, "CONVERSION_SECONDS", 0.1)
    with pytest.raises(MediaError, match="did not come to an end"):
        async with asyncio.timeout(5):
            await playable(wav(1))
