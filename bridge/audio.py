"""Sound that every client plays, made by ffmpeg from whatever telephony records.

It runs as a process of its own, without this one's environment, within bounds of time and memory, and only reads what
it is given: nothing of a recording is on any disk.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from itertools import pairwise

from bridge.model.doors import Recording
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

LONGEST_SECONDS = 15 * 60  # of a recording: a longer one stays as it came, and nothing of it is cut off
CONVERSION_SECONDS = 120.0
MEMORY = 1024 * 1024 * 1024
BITRATE = "24k"  # speech needs no more in Opus (RFC 6716, section 2.1.1)
POINTS = 100  # of a waveform
LOUDEST = 1024  # MSC1767
SAMPLES = 8000  # a second, for the waveform alone

# Recordings are as hostile as whoever left them: no playlists, no other files, no network.
DEMUXERS = "wav,w64,mp3,ogg,flac,aac,amr,au,caf,mov,matroska"
INPUT = ("-protocol_whitelist", "pipe", "-format_whitelist", DEMUXERS, "-i", "pipe:0")
MONO = ("-map", "0:a:0", "-map_metadata", "-1", "-ac", "1", "-t", str(LONGEST_SECONDS + 1))
OPUS = ("-c:a", "libopus", "-application", "voip", "-b:a", BITRATE, "-f", "ogg")
PLAIN = ("-ar", str(SAMPLES), "-f", "s16le")
BOUNDS = ("prlimit", f"--as={MEMORY}", f"--cpu={round(CONVERSION_SECONDS)}", "nice", "-n", "10")
FFMPEG = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "quiet", "-threads", "1")


async def playable(content: Phi[bytes]) -> Recording:
    """A recording as Ogg/Opus, with its length and loudness; of no length if it is empty. Raises MediaError."""
    samples = array("h", await _run(content, *PLAIN) if content else b"")
    if not samples:
        return Recording(Phi(b""), 0, ())
    if len(samples) > LONGEST_SECONDS * SAMPLES:
        raise MediaError(f"it is longer than {LONGEST_SECONDS // 60} minutes", retry=False)
    encoded = await _run(content, *OPUS)
    waveform = await asyncio.to_thread(_waveform, samples)
    return Recording(Phi(encoded), round(len(samples) * 1000 / SAMPLES), waveform)


async def _run(content: Phi[bytes], *output: str) -> bytes:
    command = (*BOUNDS, *FFMPEG, *INPUT, *MONO, *output, "pipe:1")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )
    try:
        async with asyncio.timeout(CONVERSION_SECONDS):
            made, _ = await process.communicate(content.reveal())
    except TimeoutError:
        message = f"ffmpeg did not come to an end within {CONVERSION_SECONDS:g} seconds"
        raise MediaError(message, retry=False) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == NOT_FOUND:
        raise MediaError("ffmpeg is not installed: apt-get install ffmpeg", retry=False)
    if process.returncode != 0:
        raise MediaError("ffmpeg can't read it as sound", retry=False)
    return made


NOT_FOUND = 127  # nice, of a command that is not there


def _waveform(samples: array[int]) -> tuple[int, ...]:
    """The loudest of each stretch, against the loudest of all."""
    ends = [round(len(samples) * point / POINTS) for point in range(POINTS + 1)]
    stretches = [samples[begin:end] for begin, end in pairwise(ends)]
    peaks = [max(max(stretch, default=0), -min(stretch, default=0)) for stretch in stretches]
    return tuple(round(peak * LOUDEST / (max(peaks) or 1)) for peak in peaks)
