"""Whether a file plays, by ffprobe and ffmpeg, and mail as its senders send it."""

from __future__ import annotations

import asyncio
import json
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.element import Element, Event

Json = dict[str, Any]


def played(content: bytes, directory: Path) -> Json:
    """What ffprobe says of a sound, after ffmpeg has played it to its end. Raises if it can't."""
    file = directory / "played"
    file.write_bytes(content)
    _run("/usr/bin/ffmpeg", "-v", "error", "-xerror", "-i", file, "-f", "null", "-")
    show = ("-v", "error", "-of", "json", "-show_streams", "-show_format")
    found: Json = json.loads(_run("/usr/bin/ffprobe", *show, file))
    return found


def _run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 - the test's own words


async def mail(port: int, content: bytes) -> None:
    """Send a mail, again and again until it is taken."""

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as connection:
            connection.sendmail("pbx@pbx1.example", "100@pager.example", content)

    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.to_thread(send)
            except OSError:  # as a mail server does, whose peer has just been started
                await asyncio.sleep(0.05)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what no client hears of."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.05)


def below(reader: Element, page: Event) -> list[Event]:
    """What stands in a page's thread."""
    return [
        event
        for event in reader.messages
        if event.relation.get("rel_type") == "m.thread" and event.relation.get("event_id") == page.event_id
    ]


async def file_below(reader: Element, page: Event) -> Event:
    """The first file in a page's thread."""
    return await reader.wait_for(
        lambda: next((event for event in below(reader, page) if "file" in event.content), None), 30
    )
