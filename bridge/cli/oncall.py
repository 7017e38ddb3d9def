"""`nightbell oncall`: who holds which role."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.known import known, on_record
from bridge.cli.moments import moment
from bridge.config import Config
from bridge.policy.rendering import clock
from bridge.policy.schedule import on_call
from bridge.policy.summaries import on_call_line
from bridge.store.shifts import Held


def oncall(
    at: Annotated[
        str | None, typer.Option(help="When, in local time: 2026-12-25 02:00. Now, if left out.")
    ] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show who holds each role, until when, who then, and who is asked after them.

    Shifts that were taken or given in a room, and calendars that were fetched, are read from the database. Of a time
    that has passed it tells what is on record, whatever the files say now.
    """
    loaded = load_or_exit(config)
    when = moment(at, loaded.roster.time_zone)
    loaded, changes = known(loaded, when)
    recorded = on_record(loaded, when)
    for role in loaded.roster.roles:
        if role in recorded:
            typer.echo(_recorded_line(loaded, recorded[role]))
            continue
        typer.echo(on_call_line(loaded, role, when, changes))
        after = [loaded.roster.people[person].name for person in on_call(loaded, role, when, changes)[1:]]
        if after:
            typer.echo(f"    after that: {', '.join(after)}")


def _recorded_line(config: Config, record: Held) -> str:
    """As it was: `Cardiology on call: Dr. Okafor since Mon 23 Nov 08:00 (on record; rules 3f2a...)`."""
    roster = config.roster
    person = roster.people.get(record.holder) if record.holder is not None else None
    who = person.name if person is not None else record.user or "nobody"
    since = clock(record.start, roster.zone(record.role), record.start + timedelta(days=2))
    return (
        f"{roster.roles[record.role].name}: {who} since {since} (on record; rules {record.config_hash[:12]})"
    )
