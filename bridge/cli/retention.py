"""`nightbell retention`: what will go, when and why; and the proof of what went."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge import ledger
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.cli.ledger import PublicKey, given_key
from bridge.config import Config
from bridge.config.retention import OPERATIONS
from bridge.engine.capture import KEPT
from bridge.engine.retain import BATCH, CERTIFICATE
from bridge.house import open_archive
from bridge.model.ids import PageId
from bridge.policy.rendering import duration
from bridge.policy.retention import Hold, end_of, held_by
from bridge.store import captures, holds, loose, retention

MOST_COUNTED = 1_000

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
    """Show what content will go in the coming days, when and why; and what a hold keeps. Changes nothing.

    Times are in the time zone of roles.yaml. What is over already goes at the running bridge's next sweep.
    """
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
    public_key: PublicKey,
) -> None:
    """Check the signatures of certificates, without the database; exit with 1 if any does not hold."""
    key = given_key(public_key)
    with told():
        texts = file.read_text(errors="replace").splitlines()
    if not texts:
        typer.echo(f"{file} holds no certificate", err=True)
    whole = bool(texts)
    for number, text in enumerate(texts, 1):
        try:
            said = ledger.read_statement(CERTIFICATE, text, key)
        except ValueError as error:
            typer.echo(f"NOT INTACT: line {number}: {error}", err=True)
            whole = False
        else:
            typer.echo(
                f"{number}: {said['id']} is signed; page {said['page'] or '-'}, {len(said['events'])} events, "
                f"{len(said['files'])} files"
            )
    if not whole:
        raise typer.Exit(1)


@dataclass(slots=True)
class _Found:
    """Of pages: how many go and are held within the time, and when the first after it goes."""

    going: int = 0
    held: int = 0
    following: datetime | None = None


async def _plan(directory: Path, ahead: timedelta) -> None:
    config = load_or_exit(directory)
    until = datetime.now(UTC) + ahead
    async with open_archive(config) as archive, archive.database.read() as connection:
        in_force = await holds.in_force(connection)
        found = await _pages(connection, config, in_force, until)
        await _recorded(connection, config, in_force, until)
        kind = config.retention.of(OPERATIONS)
        old = await loose.older_than(connection, until - kind.keep, in_force)
        others = len(await loose.find(connection, old, limit=MOST_COUNTED))
    typer.echo(f"{found.going} go within {ahead.days} days, {found.held} are held")
    if found.following is not None:
        typer.echo(f"the next page after that goes {_moment(config, found.following)}")
    count = f"{MOST_COUNTED} or more" if others >= MOST_COUNTED else others
    typer.echo(
        f"{count} messages and requests that belong to no page go, too: {duration(kind.keep)} after arrival"
    )


async def _pages(
    connection: AsyncConnection, config: Config, in_force: Sequence[Hold], until: datetime
) -> _Found:
    """Print the pages whose time is up until a moment, class by class, each in the order of their arrival."""
    found = _Found()
    typer.echo(f"{'goes at':<16}  {'page':<32}  {'role':<16}  why")
    for name in await retention.classes_alive(connection):
        after = None
        while lives := await retention.lives(connection, name, after=after, limit=BATCH):
            after = (lives[-1].arrived, lives[-1].page)
            for life in lives:
                end, hold = end_of(config.retention, life), held_by(in_force, [life])
                if end.at > until:
                    if hold is None and (found.following is None or end.at < found.following):
                        found.following = end.at
                    continue
                if hold is None:
                    found.going += 1
                else:
                    found.held += 1
                why = f"HELD by {hold.id}, or else {end.why}" if hold else end.why
                typer.echo(_line(config, end.at, life.page, life.role, why))
    return found


async def _recorded(
    connection: AsyncConnection, config: Config, in_force: Sequence[Hold], until: datetime
) -> None:
    """Print what was recorded of channels and goes until a moment, or is held."""
    for each in await captures.known(connection):
        if each.until + KEPT <= until:
            hold = captures.held(each, in_force)
            clause = "recorded traffic: 1 d after its end"
            why = f"HELD by {hold.id}, or else {clause}" if hold else clause
            typer.echo(_line(config, each.until + KEPT, "-", each.channel, why))


def _line(config: Config, at: datetime, page: str, of: str, why: str) -> str:
    return f"{_moment(config, at)}  {page:<32}  {of:<16}  {why}"


def _moment(config: Config, at: datetime) -> str:
    return f"{at.astimezone(config.roster.time_zone):%Y-%m-%d %H:%M}"


async def _certificates(directory: Path, page: PageId | None) -> None:
    async with open_archive(load_or_exit(directory)) as archive, archive.database.read() as connection:
        found = await retention.certificates(connection, page)
    for certificate in found:
        typer.echo(certificate)
    if not found:
        typer.echo(
            "nothing was destroyed yet, or it is not proved yet; see: nightbell retention plan", err=True
        )
