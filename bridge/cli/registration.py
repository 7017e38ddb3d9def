"""`nightbell registration`: the file that makes the homeserver and the bridge known to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.check import ConfigDirectory
from bridge.config import ConfigError, load
from bridge.matrix.registration import RegistrationError, new_registration, write_registration


def registration(
    config: ConfigDirectory = Path("config"),
    output: Annotated[
        Path | None, typer.Option(help="Where to write it; else where the config expects it.")
    ] = None,
) -> None:
    """Write a registration with fresh tokens, readable by its owner only; never over an existing one."""
    try:
        homeserver = load(config).nightbell.homeserver
        file = output or homeserver.registration
        write_registration(file, new_registration(homeserver.bot, homeserver.server_name))
    except (ConfigError, RegistrationError) as error:
        typer.echo(f"nightbell: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(
        f"{file} written. Name it under app_service_config_files in homeserver.yaml and restart Synapse."
    )
