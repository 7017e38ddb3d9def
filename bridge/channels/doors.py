"""Doors that listen by themselves: one that can't be opened keeps no other from being open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

FIRST_PAUSE = 1.0  # seconds before another try; doubled up to the longest
LONGEST_PAUSE = 60.0


async def keep_open(serve: Callable[[], Awaitable[None]], tell: Callable[[str], Awaitable[None]]) -> None:
    """Serve until cancelled. An address that can't be listened on is told, and tried again ever less often."""
    pause = FIRST_PAUSE
    while True:
        try:
            await serve()
        except OSError as error:
            await tell(f"it can't be opened, and is tried again: {error.strerror or type(error).__name__}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
