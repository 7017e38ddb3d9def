"""`nightbell hold`: what must not go, by whom and why; and its hand-over, encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from bridge.archive import seal, unseal
from bridge.cli.administrators import By, DryRun, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.cli.handing_over import facts_of, gather
from bridge.cli.moments import moment
from bridge.cli.numbers import NO_SUCH_NUMBER, given_number
from bridge.config import Config
from bridge.config.problems import did_you_mean
from bridge.engine.retain import BATCH, keep_held
from bridge.house import Archive, open_archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind, Life, end_of, held_by
from bridge.store import captures, holds, ledger, matrix_inbox, retention
from bridge.store.inbox import CALLER

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Legal holds: what must not go.",
)

IN_ENVIRONMENT = "NIGHTBELL_ARCHIVE_PASSPHRASE"
SAID_OF_IT = "Opens the archive. Left out, it is asked for, so that no history of commands keeps it."
Passphrase = Annotated[
    str, typer.Option(prompt=True, hide_input=True, envvar=IN_ENVIRONMENT, help=SAID_OF_IT)
]


class HoldError(NightbellError):
    """There is no such hold, or nothing that it could be about, or nowhere to write what it keeps."""


@app.command()
def place(
    kind: Annotated[HoldKind, typer.Argument(help="What it is about.")],
    value: Annotated[str, typer.Argument(help="The page's, room's or role's id, or the number.")] = "",
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; it is sealed.")],
    since: Annotated[str | None, typer.Option("--from", help="Only what arrived since: 2026-12-24.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what arrived before.")] = None,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Keep content from going, whatever its class says, until the hold is lifted."""
    if (kind is HoldKind.RANGE) == bool(value):
        raise typer.BadParameter("a range has no value, and everything else has one")
    if kind is HoldKind.RANGE and since is None and until is None:
        raise typer.BadParameter("a range needs --from or --until")
    loaded = load_or_exit(config)
    zone = loaded.roster.time_zone
    start = moment(since, zone, "--from") if since else None
    end = moment(until, zone, "--until") if until else None
    if start and end and start >= end:
        raise typer.BadParameter("--from should be before --until")
    hold = Hold(uuid4().hex[:12], kind, value, start, end)
    with told():
        asyncio.run(_would_hold(loaded, hold) if dry_run else _place(loaded, hold, by, Phi(reason)))


@app.command()
def lift(
    hold_id: Annotated[str, typer.Argument(help="The hold's id.")],
    by: By,
    *,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """End a hold: what it kept goes by its own clock."""
    loaded = load_or_exit(config)
    with told():
        asyncio.run(_would_lift(loaded, hold_id) if dry_run else _lift(loaded, hold_id, by))


@app.command("list")
def show(config: ConfigDirectory = CONFIG) -> None:
    """Show every hold that is in force."""
    with told():
        asyncio.run(_list(load_or_exit(config)))


@app.command()
def export(
    hold_id: Annotated[str, typer.Argument(help="The hold's id.")],
    output: Annotated[Path, typer.Argument(help="The archive to write.")],
    by: By,
    passphrase: Annotated[str | None, typer.Option(envvar=IN_ENVIRONMENT, help=SAID_OF_IT)] = None,
    *,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Write held content into an encrypted archive with a manifest. Doing so is itself recorded."""
    loaded = load_or_exit(config)
    with told():
        if dry_run:
            asyncio.run(_would_export(loaded, hold_id, output))
            return
        with _fresh(output):
            secret = passphrase or typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
            output.write_bytes(asyncio.run(_export(loaded, hold_id, by, secret)))


@app.command("open")
def read(
    archive: Annotated[Path, typer.Argument(help="An archive.")],
    output: Annotated[Path, typer.Argument(help="The ZIP file to write, in the clear.")],
    passphrase: Passphrase,
) -> None:
    """Open an archive. Needs neither the configuration nor the database."""
    with told(), _fresh(output):
        output.write_bytes(unseal(archive.read_bytes(), passphrase).reveal())
        typer.echo(f"{output} is in the clear; delete it when it has been read")


@contextmanager
def _fresh(output: Path) -> Iterator[None]:
    """A file that only its owner may read, and that is not left behind empty. Raises HoldError."""
    try:
        output.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        message = f"{output} can't be made: {error.strerror}"
        raise HoldError(message) from None
    try:
        yield
    except BaseException:
        output.unlink()
        raise


async def _would_hold(config: Config, hold: Hold) -> None:
    async with open_archive(config) as archive:
        hold = _findable(archive, hold)
        lives = await _lives(archive, hold)
        await _require_subject(archive, hold, lives)
    typer.echo(f"{len(lives)} pages would be held")


async def _place(config: Config, hold: Hold, by: str, reason: Phi[str]) -> None:
    now = datetime.now(UTC)
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "hold place")
        hold = _findable(archive, hold)
        lives = await _lives(archive, hold)
        await _require_subject(archive, hold, lives)
        objects: dict[str, str | int] = {"hold": hold.id, "kind": hold.kind.value, "pages": len(lives)}
        async with archive.database.write() as connection:
            await holds.place(connection, archive.keys, hold, reason=reason, by=by, now=now)
            await ledger.append(connection, [Record(Action.HOLD_PLACED, by, objects=objects)], now)
        for index in range(0, len(lives), BATCH):
            async with archive.database.write() as connection:
                await keep_held(connection, archive.keys, lives[index : index + BATCH], [hold])
        async with archive.database.write() as connection:
            recorded = await captures.keep_held(connection, archive.keys, [hold])
    also = f", and the recorded traffic of {recorded} channels" if recorded else ""
    typer.echo(f"{len(lives)} pages{also} are held by {hold.id}")
    if hold.kind is not HoldKind.PAGE and (hold.until is None or hold.until > now):
        typer.echo("and so is what it is about and comes later, until it is lifted")
    if hold.kind is HoldKind.NUMBER and not lives:
        typer.echo(NO_SUCH_NUMBER, err=True)


async def _require_subject(archive: Archive, hold: Hold, lives: Sequence[Life]) -> None:
    """Raise HoldError for what is not here: a hold that keeps nothing looks like one that does."""
    if lives:
        return
    config = archive.config
    if hold.kind is HoldKind.PAGE:
        raise HoldError(f"no page {hold.value} has content: see nightbell retention plan, or the ledger")
    if hold.kind is HoldKind.ROLE and hold.value not in config.roster.roles:
        meant = did_you_mean(hold.value, config.roster.roles)
        raise HoldError(f'no page of role "{hold.value}" has content, nor does it exist{meant}')
    if hold.kind is HoldKind.ROOM:
        async with archive.database.read() as connection:
            rooms = await matrix_inbox.rooms(connection)
        if hold.value not in rooms.values():
            known = ", ".join(f"{room} ({destination})" for destination, room in sorted(rooms.items()))
            raise HoldError(f"{hold.value} is no room of ours; known: {known or 'none yet'}")


def _findable(archive: Archive, hold: Hold) -> Hold:
    """A number is kept, and looked for, only as its fingerprint."""
    if hold.kind is not HoldKind.NUMBER:
        return hold
    return replace(hold, value=archive.keys.lookup(CALLER, given_number(hold.value)).hex())


async def _would_lift(config: Config, hold_id: str) -> None:
    now = datetime.now(UTC)
    async with open_archive(config) as archive:
        hold = await _in_force(archive, hold_id)
        async with archive.database.read() as connection:
            others = [each for each in await holds.in_force(connection) if each != hold]
        lives = await _lives(archive, hold)
    free = [life for life in lives if not held_by(others, [life])]
    over = [life for life in free if end_of(config.retention, life).at <= now]
    typer.echo(
        f"{len(lives)} pages are held: {len(over)} would go at the next sweep, {len(free) - len(over)} at their time, "
        f"and {len(lives) - len(free)} are held by others"
    )


async def _lift(config: Config, hold_id: str, by: str) -> None:
    now = datetime.now(UTC)
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "hold lift")
        await _end(archive, hold_id, by, now)
    typer.echo(f"{hold_id} is lifted")


async def _end(archive: Archive, hold_id: str, by: str, now: datetime) -> None:
    async with archive.database.write() as connection:
        if not await holds.lift(connection, hold_id, by, now):
            raise HoldError(f"no hold {hold_id} is in force: see nightbell hold list")
        await ledger.append(connection, [Record(Action.HOLD_LIFTED, by, objects={"hold": hold_id})], now)


async def _list(config: Config) -> None:
    zone = config.roster.time_zone
    async with open_archive(config) as archive, archive.database.read() as connection:
        found = await holds.placed(connection, archive.keys)
    if not found:
        typer.echo("no hold is in force")
    for placed in found:
        hold = placed.hold
        subject = {HoldKind.NUMBER: ["number"], HoldKind.RANGE: ["all"]}.get(
            hold.kind, [hold.kind.value, hold.value]
        )
        edges = (("from", hold.start), ("until", hold.until))
        times = [f"{word} {at.astimezone(zone):%Y-%m-%d %H:%M}" for word, at in edges if at is not None]
        typer.echo(
            f"{hold.id}  {placed.at.astimezone(zone):%Y-%m-%d %H:%M}  {placed.by}  "
            f"{' '.join([*subject, *times])}  {placed.reason.reveal()}"
        )


async def _in_force(archive: Archive, hold_id: str) -> Hold:
    async with archive.database.read() as connection:
        hold = next((each for each in await holds.in_force(connection) if each.id == hold_id), None)
    if hold is None:
        raise HoldError(f"no hold {hold_id} is in force: see nightbell hold list")
    return hold


async def _would_export(config: Config, hold_id: str, output: Path) -> None:
    async with open_archive(config) as archive:
        lives = await _lives(archive, await _in_force(archive, hold_id))
        async with archive.database.read() as connection:
            events = sum([len(await retention.intakes_of(connection, life.page)) for life in lives])
    typer.echo(f"{events} events of {len(lives)} pages would be written to {output}, encrypted")


async def _export(config: Config, hold_id: str, by: str, passphrase: str) -> bytes:
    now = datetime.now(UTC)
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "hold export")
        hold = await _in_force(archive, hold_id)
        lives = await _lives(archive, hold)
        found = await gather(archive, lives)
        facts = {"hold": hold.id, "exported_by": by, "at": now.isoformat()}
        pages = {"pages": facts_of(lives), "missing": found.missing}
        sealed = await asyncio.to_thread(seal, found.documents, facts | pages, passphrase)
        async with archive.database.write() as connection:
            exported = [
                Record(Action.EXPORTED, by, page=life.page, objects={"hold": hold.id}) for life in lives
            ] or [Record(Action.EXPORTED, by, objects={"hold": hold.id}, outcome="empty")]
            await ledger.append(connection, exported, now)
    files = len(found.documents) - found.events
    typer.echo(
        f"{found.events} events of {len(lives)} pages, and {files} documents of their recordings and files"
    )
    for name, why in found.missing.items():
        typer.echo(f"NOT in it: {name}: {why}", err=True)
    return sealed


async def _lives(archive: Archive, hold: Hold) -> list[Life]:
    """Every page with content that a hold is about."""
    found: list[Life] = []
    async with archive.database.read() as connection:
        for name in await retention.classes_alive(connection):
            after = None
            while batch := await retention.lives(connection, name, after=after, limit=BATCH):
                after = (batch[-1].arrived, batch[-1].page)
                found += [life for life in batch if hold.covers(life)]
    return found
