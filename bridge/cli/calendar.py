"""`nightbell calendar`: a picture of who holds what, gaps in red."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bridge.cli.calendar_svg import COLOURS, GAP, as_png, draw
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.known import known
from bridge.cli.moments import moment
from bridge.config import Config
from bridge.model.ids import PersonId, RoleId
from bridge.policy.schedule import Change, Shift, shifts
from bridge.policy.times import instant

_LABEL = 24
_DAY = timedelta(days=1)


def calendar(
    at: Annotated[str | None, typer.Option(help="The first day: 2026-12-24. Today, if left out.")] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days.")] = 14,
    output: Annotated[
        Path | None, typer.Option(help="Write a picture to this file: its name ends in .svg or .png.")
    ] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show who holds each role in the coming days, in the terminal or as a picture."""
    loaded = load_or_exit(config)
    zone = loaded.roster.time_zone
    day = moment(at, zone).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    loaded, changes = known(loaded, instant(day, zone))
    edges = [instant(day + number * _DAY, zone) for number in range(days + 1)]
    if output is not None:
        _write(output, draw(loaded, edges, changes))
        typer.echo(f"{output}: {days} days from {day:%Y-%m-%d}")
        return
    console = Console()
    console.print(_header([edge.astimezone(zone) for edge in edges], console.width))
    for role in loaded.roster.roles:
        console.print(_row(loaded, role, edges, changes, width=console.width), soft_wrap=True)
    console.print(_legend(loaded))


def _write(output: Path, svg: str) -> None:
    kind = output.suffix.lower()
    if kind not in (".svg", ".png"):
        raise typer.BadParameter("should end in .svg or .png", param_hint="--output")
    try:
        output.write_bytes(svg.encode() if kind == ".svg" else as_png(svg))
    except OSError as error:
        raise typer.BadParameter(f"can't be written: {error.strerror}", param_hint="--output") from None


def _cells(days: int, width: int) -> int:
    """How many columns a day gets."""
    return max(1, (width - _LABEL) // days)


def _header(edges: list[datetime], width: int) -> Text:
    cells = _cells(len(edges) - 1, width)
    wide_enough = 6
    form = "%a %d" if cells >= wide_enough else "%d" if cells > len("%d") else ""
    return Text(
        " " * _LABEL + "".join(f"{edge:{form}}"[:cells].ljust(cells) if form else "│" for edge in edges[:-1])
    )


def _row(
    config: Config, role: RoleId, edges: list[datetime], changes: tuple[Change, ...], *, width: int
) -> Text:
    cells = _cells(len(edges) - 1, width)
    found = shifts(config, role, edges[0], edges[-1], changes)
    row = Text(config.roster.roles[role].name[: _LABEL - 1].ljust(_LABEL))
    for day, following in pairwise(edges):
        for cell in range(cells):
            start, until = (day + (following - day) * part / cells for part in (cell, cell + 1))
            row.append(*_cell(config, [s for s in found if s.start < until and start < s.until]))
    return row


def _cell(config: Config, touching: list[Shift]) -> tuple[str, str]:
    """A letter and its style. A gap shows, however short it is."""
    if any(not shift.holders for shift in touching):
        return "!", f"bold white on {GAP}"
    holder = touching[0].holders[0]
    return config.roster.people[holder].name.split()[-1][0], f"black on {_colour(config, holder)}"


def _colour(config: Config, person: PersonId) -> str:
    return COLOURS[list(config.roster.people).index(person) % len(COLOURS)]


def _legend(config: Config) -> Text:
    legend = Text("\n")
    for person_id, person in config.roster.people.items():
        legend.append(f" {person.name} ", f"black on {_colour(config, person_id)}")
        legend.append(" ")
    legend.append(" nobody ", f"bold white on {GAP}")
    return legend
