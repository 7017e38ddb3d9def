"""What was said in a recording, as a machine heard it: an optional extra, off unless a model is configured.

It runs as a process of its own (`python -m bridge.transcription MODEL`), so that nothing it does can keep a page from
anybody: recording at stdin, text at stdout, nothing on a disk, no network. The model is a folder in the form of
faster-whisper's (CTranslate2), which the operator supplies.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bridge.config.nightbell import Transcription
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

LONGEST = 20_000  # characters; a quarter of an hour of speech is less
MEMORY = 8 * 1024 * 1024 * 1024
BOUNDS = ("prlimit", f"--as={MEMORY}", "nice", "-n", "15")
NOT_INSTALLED, NO_MODEL = 3, 4
# What a folder of faster-whisper's holds. Without its tokenizer the library would look for one on the network.
FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.*")
MISSING_LIBRARY = "faster-whisper is not installed: pip install 'nightbell[transcription]'"


def lacking(settings: Transcription) -> str | None:
    """What keeps recordings from becoming text, as far as it shows without loading the model."""
    if not settings.model.is_dir():
        return f"{settings.model} is no folder: put a model of faster-whisper's there"
    if missing := [name for name in FILES if not any(settings.model.glob(name))]:
        return f"{settings.model} is no model of faster-whisper's: it lacks {', '.join(missing)}"
    return MISSING_LIBRARY if importlib.util.find_spec("faster_whisper") is None else None


def transcriber(settings: Transcription) -> Callable[[Phi[bytes]], Awaitable[Phi[str]]]:
    """What turns a recording into text; it raises MediaError."""

    async def transcribe(recording: Phi[bytes]) -> Phi[str]:
        said = await _run(settings, recording)
        return Phi(said.reveal().decode(errors="replace").strip()[:LONGEST])

    return transcribe


async def prove(settings: Transcription) -> None:
    """Load the model, as for a recording. Raises MediaError if it can't be."""
    await _run(settings, Phi(b""))


async def _run(settings: Transcription, recording: Phi[bytes]) -> Phi[bytes]:
    """What the process says to a recording; nothing to none."""
    command = (sys.executable, "-m", __name__, str(settings.model), settings.language)
    try:
        process = await asyncio.create_subprocess_exec(
            *BOUNDS,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
            | {"HF_HUB_OFFLINE": "1"},
        )
    except OSError as error:
        raise MediaError(f"transcription can't be started ({error.strerror})", retry=True) from None
    try:
        async with asyncio.timeout(settings.timeout.total_seconds()):
            said, _ = await process.communicate(recording.reveal())
    except TimeoutError:
        raise MediaError("transcription took too long", retry=True) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == NOT_INSTALLED:
        raise MediaError(MISSING_LIBRARY, retry=False)
    if process.returncode == NO_MODEL:
        message = f"the model can't be loaded: is {settings.model} a whole folder of faster-whisper's?"
        raise MediaError(message, retry=True)
    if process.returncode != 0:
        raise MediaError("transcription failed", retry=True)
    return Phi(said)


def main(model: str, language: str) -> int:
    """Transcribe stdin to stdout; of no recording, only load the model."""
    try:
        library: Any = importlib.import_module("faster_whisper")
    except ImportError:
        return NOT_INSTALLED
    if not Path(model).is_dir():  # a name would be looked for on the network
        return NO_MODEL
    try:
        heard = library.WhisperModel(
            model, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
        )
    except Exception:  # noqa: BLE001 - whatever the library makes of a broken file
        return NO_MODEL
    recording = sys.stdin.buffer.read()
    if not recording:
        return 0
    segments, _ = heard.transcribe(io.BytesIO(recording), language=language or None, vad_filter=True)
    sys.stdout.buffer.write(" ".join(segment.text.strip() for segment in segments).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
