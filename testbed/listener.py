"""Waiting for what a client hears."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Listener:
    """Owns the task that listens, and wakes whoever waits for what it brings."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self._listening: asyncio.Task[Any] | None = None

    async def wait_for(self, predicate: Callable[[], T | None], timeout: float = 30) -> T:
        """The first true value of the predicate, looked at whenever something was heard."""
        async with asyncio.timeout(timeout):
            while not (value := predicate()):
                if self._listening is None or self._listening.done():
                    await self._why_deaf()
                self._heard.clear()
                await self._heard.wait()
            return value

    def _listen(self, hearing: Coroutine[Any, Any, Any]) -> None:
        self._listening = asyncio.create_task(hearing)
        self._listening.add_done_callback(lambda _task: self._heard.set())

    async def _stop_listening(self) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _why_deaf(self) -> None:
        if self._listening:
            await self._listening
        message = "waiting for a client that listens no more"
        raise RuntimeError(message)
