"""A recording in a room: fetched and decrypted by a clinician's own client, and played."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import nio
from nio.crypto.attachments import decrypt_attachment

from demo.state import DemoError
from testbed.clinician import Clinician, Message

BARS = "▁▂▃▄▅▆▇█"
LOUDEST = 1024  # MSC1767
COLUMNS = 25


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording that plays."""

    file: Path
    seconds: float
    loudness: str


async def hear(client: Clinician, message: Message, file: Path) -> Heard:
    """Fetch, decrypt, and play to its end. Raises DemoError if it does not play."""
    encrypted = message.content["file"]
    answer = await client.client.download(encrypted["url"])
    if not isinstance(answer, nio.MemoryDownloadResponse):
        raise DemoError(f"the recording can't be fetched: {answer}")
    key, digest = encrypted["key"]["k"], encrypted["hashes"]["sha256"]
    content = decrypt_attachment(answer.body, key, digest, encrypted["iv"])
    await asyncio.to_thread(file.write_bytes, content)
    command = ("ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(file), "-f", "null", "-")
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise DemoError(f"the recording does not play: {file}")
    voice = message.content["org.matrix.msc1767.audio"]
    every = max(1, len(voice["waveform"]) // COLUMNS)
    peaks = [max(voice["waveform"][at : at + every]) for at in range(0, len(voice["waveform"]), every)]
    bars = "".join(BARS[min(peak * len(BARS) // LOUDEST, len(BARS) - 1)] for peak in peaks)
    return Heard(file, voice["duration"] / 1000, bars)
