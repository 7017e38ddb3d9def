"""`nightbell check`: every mistake in the configuration, with its place and its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.config import ConfigError, load

ConfigDirectory = Annotated[Path, typer.Option("--config", help="The directory of the configuration.")]


def check(config: ConfigDirectory = Path("config")) -> None:
    """Look for mistakes in the configuration; exit with 1 if there are any."""
    try:
        loaded = load(config)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    roles, rules = len(loaded.roster.roles), len(loaded.routing.rules)
    typer.echo(f"{config}: no mistakes; {roles} roles, {rules} rules, configuration {loaded.hash[:12]}")
