"""`nightbell leakcheck`: canaries go in through the front door; nothing but the clinicians' devices may show them."""

from __future__ import annotations

import asyncio
import secrets
import smtplib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from bridge.channels import read_settings
from bridge.channels.channel import NoSampleError, Probe, intake_path
from bridge.cli.administrators import By, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.cli.leak_search import Hit, Needle, in_bytes, in_files, needles
from bridge.cli.reachable import reachable
from bridge.cli.send import sent
from bridge.config import ChannelSection, Config
from bridge.house import open_archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.model.ids import ChannelId
from bridge.store import ledger

CHECK = "A check for leaks; there is nothing to do."
ANSWER_CHARACTERS = 200
WORDS, NAME, NUMBER, SOURCES_ID = "words", "name", "number", "the source's id"
PATIENCE_SECONDS = 60
SETTLE_SECONDS = 3
ROWS = 500
TABLES = (
    "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
)


class LeakCheckFailedError(NightbellError):
    """The canaries could not be planted, so that not finding them proves nothing."""


@dataclass(frozen=True, slots=True)
class Searched:
    """One place, how much of it there was, and what was found."""

    place: str
    amount: str
    hits: frozenset[Hit]


def leakcheck(
    by: By,
    path: Annotated[
        list[Path] | None, typer.Option(help="A file or directory: databases, media, logs.")
    ] = None,
    database: Annotated[list[str] | None, typer.Option(help="postgresql://user:password@host/name")] = None,
    url: Annotated[list[str] | None, typer.Option(help="A page to fetch, such as the metrics.")] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Plant a name, a number, words and ids through each channel of the running bridge, then look for them.

    Whoever is on call for them gets the pages; they say that they are a check. Exits with 1 and names the place if
    anything was found.
    """
    loaded = load_or_exit(config)
    if not (path or database or url):
        raise typer.BadParameter("name the places to search: --path, --database, --url")
    canaries = {
        WORDS: f"Kanári{secrets.token_hex(6)}",
        NAME: f"Ünal{secrets.token_hex(6)}",
        NUMBER: f"1555{secrets.randbelow(10**9):09}",
        SOURCES_ID: f"leak{secrets.token_hex(8)}",
    }
    with told():
        planted, searched = asyncio.run(_check(loaded, canaries, by, path or [], database or [], url or []))
    console = Console()
    doors = Table("channel", "canaries")
    for channel, became in planted.items():
        doors.add_row(channel, became)
    console.print(doors)
    table = Table("place", "searched", "found")
    for each in searched:
        table.add_row(each.place, each.amount, str(len(each.hits)))
    console.print(table)
    for hit in sorted((hit for each in searched for hit in each.hits), key=lambda hit: hit.place):
        console.print(f"FOUND: {hit.canary}, {hit.form}, in {hit.place}", soft_wrap=True)
    if any(each.hits for each in searched):
        raise typer.Exit(1)


async def _check(
    config: Config,
    canaries: dict[str, str],
    by: str,
    *places: Sequence[Any],
) -> tuple[dict[ChannelId, str], list[Searched]]:
    paths, databases, urls = places
    async with open_archive(config) as archive:
        await require(archive, by, Duty.OPERATOR, "leakcheck")
        async with archive.database.write() as connection:
            await ledger.append(connection, [Record(Action.CANARY, by)], datetime.now(UTC))
    planted = await _plant(config, canaries)
    wanted = needles(canaries)
    searched = []
    for path in paths:
        size, found = await asyncio.to_thread(in_files, path, wanted)
        searched.append(Searched(str(path), f"{size / 2**20:.1f} MiB", frozenset(found)))
    searched += [await _in_database(address, wanted) for address in databases]
    searched += [await _in_page(address, wanted) for address in urls]
    return planted, searched


async def _plant(config: Config, canaries: Mapping[str, str]) -> dict[ChannelId, str]:
    """Send events as their sources would, and wait until all that follows is sent. What became of each channel."""
    planted = {
        name: await asyncio.to_thread(_knock, config, name, section, canaries)
        for name, section in config.channels.items()
    }
    if "planted" not in planted.values():
        raise LeakCheckFailedError("no channel took the canaries")
    listen = config.nightbell.listen
    base = f"http://{reachable(listen.host)}:{listen.port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.sleep(1)  # until they are routed
            while not await _is_quiet(session, base):  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.5)
    except (aiohttp.ClientError, TimeoutError) as error:
        message = (
            f"the canary was not taken to its end ({type(error).__name__}): does the bridge run, and deliver?"
        )
        raise LeakCheckFailedError(message) from None
    await asyncio.sleep(SETTLE_SECONDS)
    return planted


def _knock(config: Config, name: ChannelId, section: ChannelSection, canaries: Mapping[str, str]) -> str:
    """Send what the channel's source would send. Of a source that can tell who calls, name and number go with it."""
    listen = config.nightbell.listen
    probe = Probe(
        listen.public_url.rstrip("/") + intake_path(name),
        f"{canaries[SOURCES_ID]}-{name}",
        datetime.now(UTC),
        f"{CHECK} {canaries[WORDS]}",
        "test",
        caller=f"+{canaries[NUMBER]}",
        caller_name=canaries[NAME],
    )
    try:
        taken, answer = sent(listen, section.type, read_settings(name, section), probe)
    except NoSampleError as error:
        return f"not planted: {error}"
    except (OSError, smtplib.SMTPException) as error:
        raise LeakCheckFailedError(f"{name} did not take the canary: {type(error).__name__}") from None
    if not taken:
        raise LeakCheckFailedError(f"{name} did not take the canary: {answer[:ANSWER_CHARACTERS]}")
    return "planted"


async def _is_quiet(session: aiohttp.ClientSession, base: str) -> bool:
    async with session.get(f"{base}/health") as answer:
        return bool((await answer.json())["parts"].get("outbox") == "0 waiting")


async def _in_database(address: str, wanted: Iterable[Needle]) -> Searched:
    """Every row of every table, as text; bytes show there in hexadecimal digits."""
    wanted, name = tuple(wanted), address.rsplit("@", 1)[-1]
    connection = await asyncpg.connect(address)
    rows, found = 0, set[Hit]()
    try:
        for schema, table in await connection.fetch(TABLES):
            query = f'SELECT t::text FROM "{schema}"."{table}" t'  # noqa: S608 - the database's own names
            async with connection.transaction(readonly=True):
                async for row in connection.cursor(query, prefetch=ROWS):
                    rows += 1
                    found |= in_bytes(row[0].encode(), wanted, f"{name}, table {schema}.{table}")
    finally:
        await connection.close()
    return Searched(name, f"{rows} rows", frozenset(found))


async def _in_page(address: str, wanted: Iterable[Needle]) -> Searched:
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        body = await answer.read()
    return Searched(address, f"{len(body)} bytes", frozenset(in_bytes(body, wanted, address)))
