"""`nightbell run`: the bridge itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import typer

from bridge import app
from bridge.cli.check import ConfigDirectory
from bridge.cli.logs import configure_logging
from bridge.config import ConfigError, load
from bridge.engine.rulebook import Clock
from bridge.model.errors import NightbellError


def run(config: ConfigDirectory = Path("config")) -> None:
    """Run the bridge until it is stopped. Exits with 1, and says why, if it can't start."""
    run_at(config, app.utc_now)


def run_at(directory: Path, now: Clock) -> None:
    """Run the bridge on a configuration and a clock."""
    try:
        loaded = load(directory)
        configure_logging(loaded.nightbell.logging.level, loaded.nightbell.logging.format)
        # SQLite answers from a thread; by default that thread may wait 5 ms for its turn to hand an answer over.
        sys.setswitchinterval(0.0005)
        asyncio.run(app.run(loaded, now=now))
    except* (ConfigError, NightbellError, OSError) as errors:
        for error in _leaves(errors):
            typer.echo(f"nightbell: {error}", err=True)
        raise typer.Exit(1) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
