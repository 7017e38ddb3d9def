"""`nightbell oncall`: who holds which role."""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.known import known
from bridge.cli.moments import moment
from bridge.policy.schedule import on_call
from bridge.policy.summaries import on_call_line


def oncall(
    at: Annotated[
        str | None, typer.Option(help="When, in local time: 2026-12-25 02:00. Now, if left out.")
    ] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show who holds each role, until when, who then, and who is asked after them.

    Shifts that were taken or given in a room, and calendars that were fetched, are read from the database.
    """
    loaded = load_or_exit(config)
    when = moment(at, loaded.roster.time_zone)
    loaded, changes = known(loaded, when)
    for role in loaded.roster.roles:
        typer.echo(on_call_line(loaded, role, when, changes))
        after = [loaded.roster.people[person].name for person in on_call(loaded, role, when, changes)[1:]]
        if after:
            typer.echo(f"    after that: {', '.join(after)}")
