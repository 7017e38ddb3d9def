"""What is waited for, for how long already, and how long it took."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 5  # a log needs no more than this


class Steps:
    """Steps of a wait, of which the last is under way until `done`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: list[tuple[str, float]] = []
        self._now: str | None = None
        self._began = 0.0
        self._told = 0

    def __call__(self, what: str) -> None:
        """Begin to wait for something, which ends what was waited for until now."""
        if what.startswith("waiting for "):
            return  # a server's own count of seconds, which `tick` makes as well
        self.done()
        self._now, self._began, self._told = what, time.monotonic(), 0
        self._tell(f"waiting for {what}")

    def done(self) -> None:
        """The last step has ended well."""
        if self._now:
            self._done.append((self._now, time.monotonic() - self._began))
            self._now = None

    def tick(self) -> None:
        """Say it again after a while, where there is no screen on which it could be seen to run."""
        elapsed = int(time.monotonic() - self._began)
        if self._now and elapsed >= self._told + PLAIN_SECONDS:
            self._told = elapsed
            self._tell(f"waiting for {self._now}, {elapsed} s")

    def _tell(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line)

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        for what, seconds in self._done:
            yield Text.assemble(("✓ ", "green"), what, (f"  {seconds:.2f} s", "dim"))
        if self._now:
            yield Text.assemble(
                ("… ", "yellow"),
                f"waiting for {self._now}",
                (f"  {time.monotonic() - self._began:.1f} s", "dim"),
            )


@asynccontextmanager
async def shown(console: Console, steps: Steps, frame: Callable[[], RenderableType]) -> AsyncIterator[None]:
    """Draw the frame again and again while things happen. What is no terminal gets the last frame only."""
    live = Live(frame(), console=console, auto_refresh=False)

    async def redraw() -> None:
        while True:
            await asyncio.sleep(REDRAW_SECONDS)
            steps.tick()
            live.update(frame(), refresh=True)

    with live:
        drawing = asyncio.create_task(redraw())
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            live.update(frame(), refresh=True)
            live.stop()
            console.print()
