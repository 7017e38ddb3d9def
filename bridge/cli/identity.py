"""`nightbell identity`: the bot's cross-signing identity, made once and recovered after a loss."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.check import ConfigDirectory
from bridge.config import load
from bridge.house import House, open_house, start_bot
from bridge.matrix.device import create_identity, identity_state, recover_identity
from bridge.model.errors import NightbellError


class Action(StrEnum):
    """What to do with the identity."""

    CREATE = "create"
    RECOVER = "recover"
    SHOW = "show"


RecoveryFile = Annotated[
    Path | None,
    typer.Option(
        "--recovery-key-file",
        help="create: write the recovery key here (mode 0600) instead of showing it; recover: read it from here.",
    ),
]


def identity(
    action: Annotated[Action, typer.Argument(help="create once; recover after the database was lost; show.")],
    config: ConfigDirectory = Path("config"),
    recovery_key_file: RecoveryFile = None,
) -> None:
    """Make, recover or show the bot's encryption identity. Stop the bridge first: its device has one writer."""
    try:
        asyncio.run(_act(action, config, recovery_key_file))
    except NightbellError as error:
        typer.echo(f"nightbell: {error}", err=True)
        raise typer.Exit(1) from None


async def _act(action: Action, directory: Path, file: Path | None) -> None:
    async with open_house(load(directory)) as house:
        await start_bot(house)
        if action is Action.CREATE:
            await create_identity(house.machine, lambda key: _show(key, file))
        elif action is Action.RECOVER:
            await recover_identity(house.homeserver, house.machine, _read(file))
        typer.echo(await _described(house))


def _show(recovery_key: str, file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(recovery_key + "\n", encoding="utf-8")
        typer.echo(f"The recovery key is in {file}. Move it to where your other keys are kept.")
        return
    typer.echo(
        "The bot's recovery key. It is shown this once; without it a lost database means a new identity,"
    )
    typer.echo("and a warning in every clinician's client. Keep it apart from the database:\n")
    typer.echo(f"    {recovery_key}\n")


def _read(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            message = f"{file} can't be read: {error.strerror}"
            raise NightbellError(message) from None
    if sys.stdin.isatty():
        return str(typer.prompt("Recovery key", hide_input=True))
    return sys.stdin.read()


async def _described(house: House) -> str:
    state = await identity_state(house.machine)
    keys = await house.machine.get_own_cross_signing_public_keys()
    master = keys.master_key if keys else "none"
    fingerprint = house.machine.account.fingerprint
    return (
        f"{house.homeserver.bot} · identity {state.value}\n"
        f"  identity key   {master}\n"
        f"  device         {house.homeserver.device}\n"
        f"  device key     {fingerprint}"
    )
