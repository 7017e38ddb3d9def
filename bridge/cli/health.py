"""`nightbell health`: ask the running bridge how it is; for container health checks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import typer

from bridge.cli.check import ConfigDirectory
from bridge.config import ConfigError, load

TIMEOUT_SECONDS = 5


def health(config: ConfigDirectory = Path("config")) -> None:
    """Print the bridge's health; exit with 1 unless it can take events."""
    try:
        listen = load(config).nightbell.listen
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    host = "127.0.0.1" if listen.host in ("0.0.0.0", "::") else listen.host  # noqa: S104 - to ask, not to listen
    try:
        with urllib.request.urlopen(f"http://{host}:{listen.port}/health", timeout=TIMEOUT_SECONDS) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        document = json.load(error)
    except (OSError, ValueError) as error:
        typer.echo(
            f"no answer from http://{host}:{listen.port}/health ({type(error).__name__}): is it running?",
            err=True,
        )
        raise typer.Exit(1) from None
    typer.echo(document["status"])
    for part, state in document["parts"].items():
        typer.echo(f"  {part:12} {state}")
    if document["status"] != "ready":
        raise typer.Exit(1)
