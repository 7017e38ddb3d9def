"""Transcription's own process. The model is a stand-in: a real one is the operator's own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bridge.config.nightbell import Transcription
from bridge.model.errors import MediaError
from bridge.model.phi import Phi
from bridge.transcription import transcriber

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
    ("recording", "seconds", "reason"), [("crash", 60, "failed: is the model's"), ("for ever", 1, "too long")]
)
async def test_what_goes_wrong_stays_in_its_process(
    model: Path, recording: str, seconds: float, reason: str
) -> None:
    settings = Transcription(model=model, timeout=timedelta(seconds=seconds))
    with pytest.raises(MediaError, match=reason) as error:
        await transcriber(settings)(Phi(recording.encode()))
    assert error.value.retry


async def test_a_model_that_is_no_folder_is_not_looked_for_elsewhere(model: Path) -> None:
    with pytest.raises(MediaError, match="is the model's folder"):
        await transcriber(Transcription(model=Path("small")))(Phi(b"RIFF"))


async def test_a_missing_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="pip install 'nightbell"):
        await transcriber(Transcription(model=tmp_path))(Phi(b"RIFF"))
