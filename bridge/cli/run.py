"""`nightbell run`: the bridge itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import structlog
import typer

from bridge import app
from bridge.cli.check import ConfigDirectory
from bridge.cli.logs import configure_logging, note_unhandled, watch_the_process
from bridge.config import load
from bridge.engine.rulebook import Clock
from bridge.house import utc_now
from bridge.model.errors import NightbellError

log = structlog.get_logger(__name__)


def run(config: ConfigDirectory = Path("config")) -> None:
    """Run the bridge until it is stopped. Exits with 1, and says why, if it can't start."""
    run_at(config, utc_now)


def run_at(directory: Path, now: Clock) -> None:
    """Run the bridge on a configuration and a clock."""

    async def work() -> None:
        loaded = load(directory)
        configure_logging(loaded.nightbell.logging.level, loaded.nightbell.logging.format)
        watch_the_process()
        # SQLite answers from a thread; by default that thread may wait 5 ms for its turn to hand an answer over.
        sys.setswitchinterval(0.0005)
        await app.run(loaded, now=now)

    until_it_ends(work)


def until_it_ends(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run it. An end that nobody asked for is told without any value, and exits with 1."""
    try:
        asyncio.run(_watched(work))
    except Exception as ended:
        for error in _leaves(ended):
            if isinstance(error, NightbellError):
                typer.echo(f"nightbell: {error}", err=True)
            elif isinstance(error, OSError) and error.strerror:
                typer.echo(f"nightbell: {error.strerror}", err=True)  # without the file's name
            else:
                log.exception("bridge_crashed", error=type(error).__name__, exc_info=error)
        raise typer.Exit(1) from None


async def _watched(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.get_running_loop().set_exception_handler(note_unhandled)
    await work()


def _leaves(error: Exception) -> list[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
