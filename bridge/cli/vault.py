"""`nightbell vault`: which operator key wraps what, and the change from one to the next while the bridge runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import typer

from bridge.cli.administrators import By, DryRun, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.house import Archive, open_archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.store import ledger, nodes, rotation
from bridge.store.nodes import Behind

BATCH = 200
# A bridge that has not given a sign for so long was killed; it gives one every five seconds.
SILENCE_SECONDS = 20
LOOK_SECONDS = 1.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="The keys of everything at rest.",
)


class KeyNotKnownError(NightbellError):
    """A running bridge does not know the new operator key yet."""


@app.command()
def status(config: ConfigDirectory = CONFIG) -> None:
    """Show which operator keys wrap how many keys."""
    with told():
        asyncio.run(_status(config))


@app.command()
def rotate(
    by: By,
    *,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Put keys.operator_key in force, and wrap everything under it that the one before still wraps.

    First have every running bridge know both: keys.previous_operator_key, and nightbell reload. Afterwards remove it.
    """
    with told():
        asyncio.run(_would_rotate(config) if dry_run else _rotate(config, by))


async def _status(directory: Path) -> None:
    async with open_archive(load_or_exit(directory)) as archive:
        await _show(archive)


async def _show(archive: Archive) -> None:
    configured = archive.keys.vault.root.id
    async with archive.database.read() as connection:
        found = await rotation.status(connection)
    for root in found:
        sign = "in force" if root.in_force else "to be replaced"
        typer.echo(
            f"{root.id}  {sign:<14}  since {root.since:%Y-%m-%d}  wraps {root.day_keys} day keys, "
            f"{root.lasting_keys} others"
        )
    if not any(root.in_force and root.id == configured for root in found):
        typer.echo(f"{configured}  configured, and not in force yet: nightbell vault rotate")


async def _would_rotate(directory: Path) -> None:
    async with open_archive(load_or_exit(directory)) as archive:
        await _show(archive)
        root = archive.keys.vault.root.id
        async with archive.database.read() as connection:
            behind = await nodes.without(connection, root)
        typer.echo(f"{root} would wrap all of it")
        if behind:
            typer.echo(_unknown(root, behind.values()))


async def _rotate(directory: Path, by: str) -> None:
    config = load_or_exit(directory)
    total = 0
    async with open_archive(config) as archive:
        await require(archive, by, Duty.OPERATOR, "vault rotate")
        vault = archive.keys.vault
        await _put_in_force(archive, by)
        while True:
            async with archive.database.write() as connection:
                done = await rotation.rewrap(connection, vault, BATCH)
                if done == 0:
                    record = Record(Action.KEY_ROTATED, by, objects={"key": vault.root.id, "wrapped": total})
                    await ledger.append(connection, [record], datetime.now(UTC))
            total += done
            if done == 0:
                break
        await archive.database.forget_deleted()
    typer.echo(f"{total} keys are wrapped anew under {vault.root.id}; no other opens anything here")
    if config.nightbell.keys.previous_operator_key is not None:
        typer.echo("keys.previous_operator_key can go now, and then: nightbell reload")


async def _put_in_force(archive: Archive, by: str) -> None:
    """Have what is made from now on wrapped by the new key. Raises KeyNotKnownError while a bridge does not know it."""
    vault = archive.keys.vault
    silent = await _silent(archive, vault.root.id)
    async with archive.database.write() as connection:
        now = datetime.now(UTC)
        if behind := await rotation.put_in_force(connection, vault, silent, now):
            raise KeyNotKnownError(_unknown(vault.root.id, behind))
        record = Record(Action.KEY_ROTATED, by, objects={"key": vault.root.id}, outcome="begun")
        await ledger.append(connection, [record], now)


async def _silent(archive: Archive, root: str) -> Mapping[str, Behind]:
    """Those of the bridges that do not know a key which give no sign. One that does ends the wait."""
    first: Mapping[str, Behind] | None = None
    for _ in range(round(SILENCE_SECONDS / LOOK_SECONDS)):
        async with archive.database.read() as connection:
            behind = await nodes.without(connection, root)
        first = behind if first is None else first
        if not behind or any(first.get(each.id) != each for each in behind.values()):
            return {}
        await asyncio.sleep(LOOK_SECONDS)
    return first or {}


def _unknown(root: str, behind: Iterable[Behind]) -> str:
    names = ", ".join(each.name for each in behind)
    return f"operator key {root} is not known to {names}: configure both there, run nightbell reload, and try again"
