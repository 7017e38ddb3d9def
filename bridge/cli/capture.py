"""`nightbell capture`: a channel's raw traffic, recorded for a time into the vault, and shown to an administrator."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from bridge.cli.administrators import By, DryRun, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.config import Config
from bridge.config.problems import did_you_mean
from bridge.config.values import parse_duration
from bridge.engine import operations
from bridge.engine.capture import KEPT
from bridge.house import Archive, open_archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.model.ids import ChannelId
from bridge.store import captures, holds, ledger
from bridge.store.captures import Capture, Piece

LONGEST = timedelta(hours=1)
MOST_BYTES = 4 * 1024 * 1024


class NoCaptureError(NightbellError):
    """Nothing was recorded of a channel, or for longer than it may be."""


def capture(
    channel: Annotated[str, typer.Argument(help="The channel.")],
    by: By,
    *,
    length: Annotated[str, typer.Option("--for", help="How long; an hour at most.")] = "5 min",
    show: Annotated[
        bool, typer.Option("--show", help="Show what was recorded. It holds patients' data.")
    ] = False,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="End it, and destroy what was recorded.")
    ] = False,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Record what comes in on a channel and what it is told, headers and secrets included.

    It is sealed, 4 MiB at most, told to the operations room and recorded; a day after its end it is destroyed.
    """
    loaded = load_or_exit(config)
    if channel not in loaded.channels:
        message = f'channel "{channel}" does not exist{did_you_mean(channel, loaded.channels)}'
        raise typer.BadParameter(message)
    with told():
        if dry_run:
            asyncio.run(_would(loaded, ChannelId(channel), begin=not (show or destroy)))
        elif show:
            pieces = asyncio.run(_show(loaded, ChannelId(channel), by))
            for piece in pieces:
                said = piece.raw.reveal().decode(errors="backslashreplace").rstrip()
                typer.echo(f"{piece.way} {piece.at:%Y-%m-%dT%H:%M:%S.%fZ}\n{said}\n")
            if not pieces:
                typer.echo(f"nothing has come in on {channel} since it is recorded", err=True)
        elif destroy:
            asyncio.run(_destroy(loaded, ChannelId(channel), by))
            typer.echo(f"what was recorded of {channel} is destroyed")
        else:
            until = asyncio.run(_begin(loaded, ChannelId(channel), by, length))
            typer.echo(f"{channel} is recorded until {until:%H:%M:%S} UTC, beginning within 5 seconds.")
            typer.echo("See it with --show, end it with --destroy.")


async def _would(config: Config, channel: ChannelId, *, begin: bool) -> None:
    """Say what there is to be shown or destroyed, by its time and size alone."""
    async with open_archive(config) as archive, archive.database.read() as connection:
        found = [each for each in await captures.known(connection) if each.channel == channel]
        in_force = await holds.in_force(connection)
    for each in found:
        hold = captures.held(each, in_force)
        ends = f"would be destroyed now; by itself it goes {each.until + KEPT:%Y-%m-%d %H:%M} UTC"
        fate = f"is kept by hold {hold.id}" if hold else ends
        typer.echo(f"what was recorded of {channel} since {each.since:%Y-%m-%d %H:%M} UTC {fate}")
    if begin:
        typer.echo(f"{channel} would be recorded")
    elif not found:
        typer.echo(f"nothing was recorded of {channel}")


async def _begin(config: Config, channel: ChannelId, by: str, length: str) -> datetime:
    try:
        time = parse_duration(length)
    except ValueError as error:
        raise NoCaptureError(f"--for {error}") from None
    if time > LONGEST:
        raise NoCaptureError("--for can be an hour at most: ask again if you need more")
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "capture")
        now = datetime.now(UTC)
        async with archive.database.write() as connection:
            await captures.begin(connection, archive.keys, Capture(channel, by, now, now + time, MOST_BYTES))
        return now + time


async def _show(config: Config, channel: ChannelId, by: str) -> list[Piece]:
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "capture --show")
        found = await _known(archive, channel)
        async with archive.database.read() as connection:
            pieces = await captures.pieces_of(connection, archive.keys, found)
        now = datetime.now(UTC)
        async with archive.database.write() as connection:
            text = f"⚠️ {by} has opened the recorded traffic of {channel}"
            await operations.tell(connection, archive.keys, text, now)
            await ledger.append(connection, [Record(Action.OPENED, by, objects={"capture": channel})], now)
        # Only now: what could not be recorded is not shown.
        return pieces


async def _destroy(config: Config, channel: ChannelId, by: str) -> None:
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "capture --destroy")
        found = await _known(archive, channel)
        async with archive.database.write() as connection:
            await captures.destroy(connection, archive.keys, [found], datetime.now(UTC))


async def _known(archive: Archive, channel: ChannelId) -> Capture:
    async with archive.database.read() as connection:
        found = [each for each in await captures.known(connection) if each.channel == channel]
    if not found:
        raise NoCaptureError(
            f"nothing was recorded of {channel}; begin with: nightbell capture {channel} --by ..."
        )
    return found[0]
