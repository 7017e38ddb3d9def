"""What was said in a recording, as a machine heard it: an optional extra, off unless a model is configured.

It runs as a process of its own (`python -m bridge.transcription MODEL`), so that nothing it does can keep a page from
anybody: recording at stdin, text at stdout, nothing on a disk, no network. The model is a folder in the form of
faster-whisper's (CTranslate2), which the operator supplies.
"""

from __future__ import annotations

import asyncio
import importlib
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
NOT_INSTALLED = 3


def transcriber(settings: Transcription) -> Callable[[Phi[bytes]], Awaitable[Phi[str]]]:
    """What turns a recording into text; it raises MediaError."""

    async def transcribe(recording: Phi[bytes]) -> Phi[str]:
        command = (sys.executable, "-m", __name__, str(settings.model), settings.language)
        process = await asyncio.create_subprocess_exec(
            *BOUNDS,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
            | {"HF_HUB_OFFLINE": "1"},
        )
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
            message = "faster-whisper is not installed: pip install 'nightbell[transcription]'"
            raise MediaError(message, retry=False)
        if process.returncode != 0:
            raise MediaError(
                "transcription failed: is the model's folder one of faster-whisper's?", retry=True
            )
        return Phi(said.decode(errors="replace").strip()[:LONGEST])

    return transcribe


def main(model: str, language: str) -> int:
    """Transcribe stdin to stdout."""
    try:
        library: Any = importlib.import_module("faster_whisper")
    except ImportError:
        return NOT_INSTALLED
    if not Path(model).is_dir():  # a name would be looked for on the network
        return 1
    heard = library.WhisperModel(
        model, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
    )
    recording = io.BytesIO(sys.stdin.buffer.read())
    segments, _ = heard.transcribe(recording, language=language or None, vad_filter=True)
    sys.stdout.buffer.write(" ".join(segment.text.strip() for segment in segments).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
