"""How every loop runs: woken by whoever made work, by its clock, and at the latest by a slow poll."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from bridge.model import in_hand
from bridge.model.errors import NightbellError

Step = Callable[[], Awaitable[float | None]]

POLL_SECONDS = 5.0
ERROR_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Wake:
    """A bell that one loop waits for and anybody may ring."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """There is work."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the bell, or for this long."""
        # Not `wait_for`: before Python 3.12 it ignores a cancellation that comes together with the bell.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


async def run_loop(
    name: str,
    wake: Wake,
    step: Step,
    beat: Callable[[str, BaseException | None], None],
) -> None:
    """Run `step` for ever. It returns the seconds until it must run again, or None for "when woken".

    A step that fails is told to `beat`, which health and metrics read, and is run again after a pause: rows
    are where the work is, so nothing is lost by it.
    """
    while True:
        with in_hand.hold():  # whatever the step opens
            try:
                pause = await step()
                beat(name, None)
            except NightbellError as error:
                log.warning("loop_step_failed", loop=name, error=type(error).__name__, reason=str(error))
                beat(name, error)
                pause = ERROR_PAUSE_SECONDS
            except Exception as error:
                log.exception("loop_step_crashed", loop=name, error=type(error).__name__)
                beat(name, error)
                pause = ERROR_PAUSE_SECONDS
        await wake.wait(POLL_SECONDS if pause is None else min(pause, POLL_SECONDS))
