"""`nightbell check`: every mistake in the configuration, with its place and its remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bridge.channels import read_settings, unanswerable
from bridge.cli.known import known
from bridge.config import Config, ConfigError, Problem, load
from bridge.policy.proof import Findings, prove
from bridge.transcription import lacking

ConfigDirectory = Annotated[Path, typer.Option("--config", help="The directory of the configuration.")]
CONFIG = Path("config")


def check(config: ConfigDirectory = CONFIG) -> None:
    """Look for mistakes in the configuration, and for minutes of the next 90 days in which nobody is on call.

    Exits with 1 if there is anything for which the bridge would refuse the configuration.
    """
    loaded, findings = checked(config, datetime.now(UTC))
    for warning in findings.warnings:
        typer.echo(f"{warning} (a warning)", err=True)
    if findings.problems:
        typer.echo(str(ConfigError(findings.problems)), err=True)
        raise typer.Exit(1)
    roles, rules = len(loaded.roster.roles), len(loaded.routing.rules)
    typer.echo(f"{config}: somebody is always found; {roles} roles, {rules} rules, {loaded.hash[:12]}")


def load_or_exit(directory: Path) -> Config:
    """The configuration in a directory; what is wrong with it goes to the terminal and ends the command."""
    try:
        return load(directory)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def checked(directory: Path, now: datetime) -> tuple[Config, Findings]:
    """A configuration, and all that can be found out about it without running it."""
    loaded = load_or_exit(directory)
    problems: list[Problem] = []
    for channel, section in loaded.channels.items():
        try:
            read_settings(channel, section)
        except ConfigError as error:
            problems += error.problems
    problems += unanswerable(loaded)
    heard = loaded.nightbell.transcription
    if heard is not None and (wrong := lacking(heard)) is not None:
        message = f"recordings would not be transcribed: {wrong}"
        problems.append(loaded.sources["nightbell.yaml"].problem(("transcription", "model"), message))
    if any(calendar.url for calendar in loaded.roster.calendars.values()):
        loaded, _ = known(loaded, now)
    findings = prove(loaded, now)
    return loaded, Findings((*problems, *findings.problems), findings.warnings)
