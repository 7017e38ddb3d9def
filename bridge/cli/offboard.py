"""`nightbell offboard`: take a person out of every room and every key, within a minute, and show that it is so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from bridge.cli.administrators import By, DryRun, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.config import Config
from bridge.config.problems import did_you_mean
from bridge.engine import operations
from bridge.house import Archive, connect_bot, open_archive
from bridge.ledger import Action, Record
from bridge.matrix import examination
from bridge.model.errors import HomeserverError, NightbellError
from bridge.model.ids import RoomId, UserId
from bridge.store import leavers, ledger

PATIENCE_SECONDS = 60


class UnknownPersonError(NightbellError):
    """Nobody of this name was ever here, or it is the bridge itself."""


def offboard(
    user: Annotated[str, typer.Argument(help="The Matrix ID, @name:example.org.")],
    by: By,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Take them back, where the files name them.")] = False,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Take a person out. The running bridge removes them from the rooms and gives each a key that they lack.

    It holds over restarts, whatever roles.yaml says; take them out of it as well. Exits with 1 if it could not be
    seen to be done within a minute.
    """
    loaded = load_or_exit(config)
    with told():
        if dry_run:
            asyncio.run(_would(loaded, UserId(user), undo=undo))
            left = []
        else:
            left = asyncio.run(
                _take_back(loaded, UserId(user), by) if undo else _take_out(loaded, UserId(user), by)
            )
    for person_id, person in loaded.roster.people.items():
        if person.matrix == user:
            roles = [role_id for role_id, role in loaded.roster.roles.items() if person_id in role.members]
            typer.echo(f'roles.yaml still names "{person_id}" in: {", ".join(roles) or "people"}')
    if left:
        typer.echo(f"NOT DONE in {', '.join(left)}: does the bridge run?", err=True)
        raise typer.Exit(1)


async def _would(config: Config, user: UserId, *, undo: bool) -> None:
    async with open_archive(config) as archive, archive.database.read() as connection:
        if not undo:
            await _check_known(archive, user)
        is_out = user in await leavers.all_of_them(connection)
        there = await leavers.rooms_with(connection, user)
        readable = await leavers.rooms_with_their_key(connection, user)
    if undo:
        typer.echo(f"{user} would count again" if is_out else f"{user} was not taken out")
        return
    typer.echo(f"{user} would be taken out of {len(there)} rooms, and {len(readable)} would get another key")


async def _take_out(config: Config, user: UserId, by: str) -> list[RoomId]:
    async with open_archive(config) as archive:
        await require(archive, by, Duty.ADMINISTRATOR, "offboard")
        await _check_known(archive, user)
        now = datetime.now(UTC)
        async with archive.database.write() as connection:
            before = await leavers.rooms_with(connection, user)
            await leavers.take_out(connection, user, by, now)
            await operations.tell(
                connection, archive.keys, f"{user} was taken out of every room by {by}.", now
            )
            record = Record(
                Action.OFFBOARDED, by, objects={"user": user, "rooms": list(before)}, outcome="asked"
            )
            await ledger.append(connection, [record], now)
        started = time.monotonic()
        left = await _until_out(archive, user, before)
        took = time.monotonic() - started
        async with archive.database.write() as connection:
            outcome = "not_done" if left else "done"
            record = Record(
                Action.OFFBOARDED, by, objects={"user": user, "rooms": list(left)}, outcome=outcome
            )
            await ledger.append(connection, [record], datetime.now(UTC))
            kept = (await ledger.head(connection)).seq
    if not left:
        typer.echo(
            f"{user} was in {len(before)} rooms, and is in none after {took:.0f} s: the homeserver says so"
        )
        typer.echo("the key of every room is one that no device of theirs was given")
    typer.echo(f"this is record {kept} of the ledger")
    return left


async def _check_known(archive: Archive, user: UserId) -> None:
    """Raise UnknownPersonError for a name that is most likely misspelled."""
    config = archive.config
    administrators = config.nightbell.administrators
    named = {
        *(person.matrix for person in config.roster.people.values()),
        *config.nightbell.rooms.operations.members,
        *administrators.operator,
        *administrators.administrator,
        *administrators.compliance,
    }
    async with archive.database.read() as connection:
        known = user in named or await leavers.is_known(connection, user)
    if user == config.bot:
        raise UnknownPersonError(f"{user} is the bridge itself: it can't leave its own rooms")
    if not known:
        message = f"nobody here knows {user}{did_you_mean(user, named)}"
        raise UnknownPersonError(message)


async def _take_back(config: Config, user: UserId, by: str) -> list[RoomId]:
    async with open_archive(config) as archive:
        await require(archive, by, Duty.ADMINISTRATOR, "offboard")
        now = datetime.now(UTC)
        async with archive.database.write() as connection:
            known = await leavers.take_back(connection, user)
            record = Record(Action.OFFBOARDED, by, objects={"user": user}, outcome="taken_back")
            await ledger.append(connection, [record] if known else [], now)
    typer.echo(f"{user} counts again" if known else f"{user} was not taken out")
    return []


async def _until_out(archive: Archive, user: UserId, before: Iterable[RoomId]) -> list[RoomId]:
    """The rooms in which they still are, or could read, by our rows and by what the homeserver says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        async with archive.database.read() as connection:
            there = await leavers.rooms_with(connection, user)
            readable = await leavers.rooms_with_their_key(connection, user)
        left = sorted({*there, *readable} or await _rooms_at_homeserver(archive.config, user, before))
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


async def _rooms_at_homeserver(config: Config, user: UserId, rooms: Iterable[RoomId]) -> list[RoomId]:
    """In which of the rooms the homeserver still has them; all of them while it does not answer."""
    try:
        async with connect_bot(config) as homeserver:
            return [room for room in rooms if user in await examination.of_room(homeserver, room)]
    except HomeserverError:
        return list(rooms)
