"""`nightbell retention`: what will go, when and why; and the proof of what went."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from bridge import ledger
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.engine.retain import BATCH, CERTIFICATE
from bridge.house import open_archive
from bridge.model.ids import PageId
from bridge.policy.retention import end_of, held_by
from bridge.store import holds, retention

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="How content goes.",
)


@app.command()
def plan(
    days: Annotated[int, typer.Option(min=0, help="How many days ahead.")] = 7,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show which pages' content will go in the coming days, when and why; and what a hold keeps. Changes nothing."""
    with told():
        asyncio.run(_plan(config, timedelta(days=days)))


@app.command()
def certificates(
    page: Annotated[str | None, typer.Option(help="Only this page's.")] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Print the certificates of destruction, one a line."""
    with told():
        asyncio.run(_certificates(config, PageId(page) if page else None))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Certificates, one a line.")],
    public_key: Annotated[str, typer.Option(help="From: nightbell ledger public-key")],
) -> None:
    """Check the signatures of certificates, without the database."""
    try:
        key = ledger.read_public_key(public_key)
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            statement = ledger.read_statement(CERTIFICATE, text, key)
            typer.echo(f"{number}: {statement['id']} is signed; {len(statement['events'])} events")
    except ValueError as error:
        typer.echo(f"NOT INTACT: {error}", err=True)
        raise typer.Exit(1) from None


async def _plan(directory: Path, ahead: timedelta) -> None:
    config = load_or_exit(directory)
    zone = config.roster.time_zone
    until = datetime.now(UTC) + ahead
    going = held = 0
    async with open_archive(config) as archive, archive.database.read() as connection:
        in_force = await holds.in_force(connection)
        for name in await retention.classes_alive(connection):
            before, after = until - config.retention.of(name).keep, None
            while found := await retention.lives(connection, name, before, after=after, limit=BATCH):
                after = (found[-1].arrived, found[-1].page)
                for life in found:
                    end = end_of(config.retention, life)
                    if end.at > until:
                        continue
                    hold = held_by(in_force, [life])
                    held, going = (held + 1, going) if hold else (held, going + 1)
                    why = f"HELD by {hold.id}" if hold else end.why
                    typer.echo(
                        f"{end.at.astimezone(zone):%Y-%m-%d %H:%M}  {life.page}  {life.role:<16} {why}"
                    )
    typer.echo(f"{going} go within {ahead.days} days, {held} are held")


async def _certificates(directory: Path, page: PageId | None) -> None:
    async with open_archive(load_or_exit(directory)) as archive, archive.database.read() as connection:
        for certificate in await retention.certificates(connection, page):
            typer.echo(certificate)
