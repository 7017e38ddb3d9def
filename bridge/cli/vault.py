"""`nightbell vault`: which operator key wraps what, and the change from one to the next while the bridge runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.administrators import Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.house import open_archive
from bridge.ledger import Action, Record
from bridge.store import ledger

BATCH = 200

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="The keys of everything at rest.",
)


@app.command()
def status(config: ConfigDirectory = CONFIG) -> None:
    """Show which operator keys wrap how many keys."""
    with told():
        asyncio.run(_status(config))


@app.command()
def rotate(
    by: Annotated[str, typer.Option("--by", help="Your Matrix ID; it is recorded.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Wrap everything under keys.operator_key that keys.previous_operator_key still wraps.

    First give both to every node and restart it: then each opens what either wraps. Afterwards remove the old one.
    """
    with told():
        asyncio.run(_status(config) if dry_run else _rotate(config, by))


async def _status(directory: Path) -> None:
    async with open_archive(load_or_exit(directory)) as archive, archive.database.read() as connection:
        for root in await archive.keys.status(connection):
            sign = "in force" if root.present else "to be replaced"
            typer.echo(
                f"{root.id}  {sign:<14}  since {root.since:%Y-%m-%d}  wraps {root.day_keys} day keys, "
                f"{root.lasting_keys} others"
            )


async def _rotate(directory: Path, by: str) -> None:
    config = load_or_exit(directory)
    total = 0
    async with open_archive(config) as archive:
        await require(archive, by, Duty.OPERATOR, "vault rotate")
        while True:
            async with archive.database.write() as connection:
                done = await archive.keys.rotate(connection, BATCH)
                if done == 0 and total:
                    key = archive.keys.vault.root.id
                    record = Record(Action.KEY_ROTATED, by, objects={"key": key, "wrapped": total})
                    await ledger.append(connection, [record], datetime.now(UTC))
            total += done
            if done == 0:
                break
    typer.echo(f"{total} keys are wrapped anew under {archive.keys.vault.root.id}")
    if config.nightbell.keys.previous_operator_key is not None:
        typer.echo("keys.previous_operator_key can go now")
