"""`nightbell doctor`: what would keep a page from arriving or content from going, and what to do about it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge.cli.check import CONFIG, ConfigDirectory, checked
from bridge.cli.endings import told
from bridge.config import Config
from bridge.config.values import SecretUnreadableError
from bridge.house import connect_bot, open_archive, open_witness
from bridge.matrix import examination
from bridge.matrix.settings import Finding, findings
from bridge.model.errors import HomeserverDatabaseError, HomeserverError
from bridge.model.ids import RoomId, UserId
from bridge.store import leavers, matrix_inbox


def doctor(
    homeserver_config: Annotated[
        list[Path] | None,
        typer.Option(
            help="Synapse's homeserver.yaml, to be looked through as well. As with Synapse: again for each further "
            "file, and a directory stands for the .yaml files in it; what a later one says holds."
        ),
    ] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Examine configuration, homeserver and people. Exits with 1 if anything is seriously wrong."""
    loaded, checks = checked(config, datetime.now(UTC))
    found = [Finding("somebody is on call at every minute", str(problem)) for problem in checks.problems]
    found += _homeserver_settings(homeserver_config or [], loaded)
    with told():
        found += keys_apart(loaded)
        found += proxies_named(loaded)
        found += asyncio.run(_examine(loaded))
    for finding in found:
        sign = "ok     " if finding.well else "WRONG  " if finding.serious else "advice "
        typer.echo(f"{sign} {finding.what}" + (f"\n          {finding.remedy}" if finding.remedy else ""))
    if any(finding.serious and not finding.well for finding in found):
        raise typer.Exit(1)


def keys_apart(config: Config) -> list[Finding]:
    """Whether a copy of the database's directory would take the operator's key with it."""
    what = "the operator's key lies apart from the database"
    scheme, separator, path = config.database_url.partition(":///")
    if not separator or not scheme.startswith("sqlite"):
        return []
    directory = Path(path).resolve().parent
    keys = config.nightbell.keys
    found = []
    for ref in filter(None, (keys.operator_key, keys.previous_operator_key)):
        if ref.file is not None and ref.file.resolve().is_relative_to(directory):
            remedy = (
                f"{ref.file} lies in {directory}, beside the database: whoever copies that directory can read all. "
                "Move it to another disk, or have a command print it (keys.operator_key: command:...)"
            )
            found.append(Finding(what, remedy, serious=False))
    return found or [Finding(what)]


def proxies_named(config: Config) -> list[Finding]:
    """Whether what comes through a reverse proxy is bounded by who sent it."""
    what, listen = "each source behind the reverse proxy is bounded by itself", config.nightbell.listen
    if not listen.public_url.startswith("https:"):
        return []
    if listen.proxies:
        return [Finding(what)]
    remedy = (
        "all that comes through it counts as one source, so that one stranger could use up what there is for all: "
        "name its address in listen.proxies, such as 127.0.0.1, and have it set X-Forwarded-For"
    )
    return [Finding(what, remedy, serious=False)]


def _homeserver_settings(given: Iterable[Path], config: Config) -> list[Finding]:
    what = "the homeserver's settings were looked through"
    files = [file for each in given for file in (sorted(each.glob("*.yaml")) if each.is_dir() else [each])]
    if not files:
        remedy = "give them, where they can be read from here: --homeserver-config /etc/matrix-synapse/homeserver.yaml"
        return [Finding(what, remedy, serious=False)]
    settings: dict[str, Any] = {}
    for file in files:
        try:
            document = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        except (OSError, YAMLError) as error:
            return [Finding(what, f"{file} can't be read: {type(error).__name__}")]
        if not isinstance(document, dict | None):
            return [Finding(what, f"{file} holds no settings")]
        settings |= document or {}
    longest = max(each.longest for each in config.retention.classes.values())
    registration = str(config.nightbell.homeserver.registration)
    return [Finding(what), *findings(settings, registration, longest)]


async def _examine(config: Config) -> list[Finding]:
    people = config.roster.people
    names = {person.matrix: person.name for person in people.values()}
    names |= dict.fromkeys(config.nightbell.rooms.operations.members, "operations")
    async with open_archive(config) as archive, archive.database.read() as connection:
        rooms: defaultdict[UserId, dict[RoomId, str]] = defaultdict(dict)
        for room in (await matrix_inbox.rooms(connection)).values():
            for user, membership in (await matrix_inbox.members(connection, room)).items():
                if membership in ("join", "invite"):
                    rooms[user][room] = membership
        gone = await leavers.all_of_them(connection) & names.keys()
    found = [
        Finding(
            f"{names.pop(user)} ({user}) is named by the files and was taken out by nightbell offboard",
            f"take them out of roles.yaml, too, or take them back: nightbell offboard {user} --undo",
            serious=False,
        )
        for user in sorted(gone)
    ]
    found += await _look_into_database(config)
    async with connect_bot(config) as homeserver:
        try:
            asked = await examination.of_homeserver(homeserver)
            found += asked
            if all(finding.well for finding in asked[:3]):
                found.append(await examination.of_identity(homeserver))
                found += await examination.of_people(homeserver, rooms, names)
        except HomeserverError as error:
            return [*found, Finding("the homeserver answers", str(error))]
    return found


async def _look_into_database(config: Config) -> list[Finding]:
    witness = open_witness(config)
    if witness is None:
        return []
    try:
        await witness.check()
    except (HomeserverDatabaseError, SecretUnreadableError) as error:
        return [Finding("the homeserver's database can be read", str(error))]
    return [Finding("the homeserver's database can be read")]
