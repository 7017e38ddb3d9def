"""`nightbell reload`: have the running bridge take the configuration as it now stands in the files."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import typer

from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.config import Config
from bridge.store import reloads
from bridge.store.database import Database

PATIENCE_SECONDS = 30
LOOK_SECONDS = 0.5


def reload(config: ConfigDirectory = CONFIG) -> None:
    """Ask the running bridge to check and take the files, and say what came of it.

    It asks in the database that both of them use. Exits with 1 if the bridge keeps what it has.
    """
    loaded = load_or_exit(config)
    with told():
        answer = asyncio.run(_asked(loaded))
    if answer is None:
        typer.echo(f"no answer within {PATIENCE_SECONDS} seconds: is the bridge running?", err=True)
        raise typer.Exit(1)
    typer.echo(answer)
    if loaded.hash[:12] not in answer:
        raise typer.Exit(1)


async def _asked(config: Config) -> str | None:
    database = Database(config.database_url)
    try:
        async with database.write() as connection:
            request = await reloads.ask(connection, datetime.now(UTC))
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            async with database.read() as connection:
                answer = await reloads.answer_to(connection, request)
            if answer is not None:
                return answer
            await asyncio.sleep(LOOK_SECONDS)
        return None
    finally:
        await database.close()
