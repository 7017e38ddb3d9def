"""Transcription's own process, with a stand-in for the library; with the real one, test_whisper.py."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bridge.config.nightbell import Transcription
from bridge.model.errors import MediaError
from bridge.model.phi import Phi
from bridge.transcription import lacking, prove, transcriber

LIBRARY = """
from types import SimpleNamespace

class WhisperModel:
    def __init__(self, model, *, device, compute_type, cpu_threads, local_files_only):
        assert local_files_only

    def transcribe(self, recording, *, language, vad_filter):
        said = recording.read().decode()
        if said == "crash":
            raise SystemExit(9)
        while said == "for ever":
            pass
        return iter([SimpleNamespace(text=f" {said}"), SimpleNamespace(text=f" in {language}")]), None
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "faster_whisper.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


async def test_a_recording_becomes_text(model: Path) -> None:
    said = await transcriber(Transcription(model=model, language="es"))(Phi("José".encode()))
    assert said == Phi("José in es")


@pytest.mark.parametrize(
    ("recording", "seconds", "reason"), [("crash", 60, "transcription failed"), ("for ever", 1, "too long")]
)
async def test_what_goes_wrong_stays_in_its_process(
    model: Path, recording: str, seconds: float, reason: str
) -> None:
    settings = Transcription(model=model, timeout=timedelta(seconds=seconds))
    with pytest.raises(MediaError, match=reason) as error:
        await transcriber(settings)(Phi(recording.encode()))
    assert error.value.retry


async def test_a_model_that_is_no_folder_is_not_looked_for_elsewhere(model: Path) -> None:
    with pytest.raises(MediaError, match="the model can't be loaded: is small a whole folder"):
        await transcriber(Transcription(model=Path("small")))(Phi(b"RIFF"))
    with pytest.raises(MediaError, match="the model can't be loaded"):
        await prove(Transcription(model=Path("small")))


async def test_a_model_that_loads_is_proved_without_a_recording(model: Path) -> None:
    await prove(Transcription(model=model))


def test_what_a_folder_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Transcription(model=tmp_path / "model")
    assert str(lacking(settings)).endswith("model is no folder: put a model of faster-whisper's there")
    settings.model.mkdir()
    (settings.model / "model.bin").touch()
    said = "it lacks config.json, tokenizer.json, vocabulary.*"
    assert str(lacking(settings)).endswith(f"model is no model of faster-whisper's: {said}")
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (settings.model / name).touch()
    (tmp_path / "faster_whisper.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert lacking(settings) is None


async def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faster_whisper.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MediaError, match="pip install 'nightbell"):
        await transcriber(Transcription(model=tmp_path))(Phi(b"RIFF"))
