"""`nightbell replay`: past events through a new configuration, and whom it would have paged otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.cli.check import load_or_exit
from bridge.cli.endings import told
from bridge.config import Config
from bridge.config.routing import LONGEST_REPEAT
from bridge.config.values import parse_duration
from bridge.engine.calendars import complete
from bridge.house import open_archive
from bridge.model.decision import Decision
from bridge.model.ids import PersonId, RoleId
from bridge.model.priority import Priority
from bridge.policy.ladder import open_page
from bridge.policy.routing import Router, compile_rules, route
from bridge.policy.schedule import Change
from bridge.store import past, shifts
from bridge.store.inbox import IntakeStore
from bridge.store.past import PastEvent
from bridge.vault import KeyDestroyedError


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """Where an event went or would go: to which role, how urgently, to whom first (None: not on record)."""

    role: RoleId
    priority: Priority
    person: PersonId | None


@dataclass(slots=True)
class Replayed:
    """How many events were looked at, how many can't be any more, and those that would go elsewhere."""

    same: int = 0
    destroyed: int = 0
    differences: list[tuple[PastEvent, list[Way], list[Way]]] = field(default_factory=list)


def replay(
    config: Annotated[Path, typer.Option("--config", help="The directory of the new configuration.")],
    since: Annotated[str, typer.Option(help="How far back: 30d, 12h.")] = "30d",
) -> None:
    """Route past events by a new configuration, each at its own time, and show those that would go elsewhere.

    Nothing of their content is shown. Exits with 1 if any would go elsewhere.
    """
    loaded = load_or_exit(config)
    try:
        length = parse_duration(since)
    except ValueError as error:
        raise typer.BadParameter(f"--since {error}") from None
    with told():
        found = asyncio.run(_replayed(loaded, length))
    for line in _lines(loaded, found):
        typer.echo(line)
    typer.echo(f"{found.same} events go where they went, {len(found.differences)} would go elsewhere")
    if found.destroyed:
        typer.echo(f"{found.destroyed} could not be looked at: their content is destroyed")
    raise typer.Exit(1 if found.differences else 0)


async def _replayed(config: Config, length: timedelta) -> Replayed:
    found = Replayed()
    now = datetime.now(UTC)
    async with open_archive(config) as archive:
        router = compile_rules(await complete(config, archive.database))
        inbox = IntakeStore(archive.database, archive.keys, lambda: now, lambda: None)
        async with archive.database.read() as connection:
            changes = await shifts.changes(connection, now - length)
            for event in await past.events_since(connection, now - length):
                try:
                    would = await _would_go(connection, router, inbox, event, changes)
                except KeyDestroyedError:
                    found.destroyed += 1
                    continue
                went = await _went(connection, event)
                if _is_same(went, would):
                    found.same += 1
                else:
                    found.differences.append((event, went, would))
    return found


async def _went(connection: AsyncConnection, event: PastEvent) -> list[Way]:
    """By the record: the pages that it became, and who held their roles."""
    ways = []
    for page in event.pages:
        held = await shifts.held_at(connection, page.role, event.received_at)
        ways.append(Way(page.role, page.priority, held.holder if held else None))
    return sorted(ways, key=_order)


async def _would_go(
    connection: AsyncConnection,
    router: Router,
    inbox: IntakeStore,
    past_event: PastEvent,
    changes: tuple[Change, ...],
) -> list[Way]:
    """By the new configuration. Raises KeyDestroyedError."""
    event, _ = await inbox.event_of(connection, past_event.id)
    at = past_event.received_at
    earlier = await inbox.earlier(connection, event.caller, at - LONGEST_REPEAT, at) if event.caller else []

    def way(decision: Decision) -> Way:
        move = open_page(router.config, decision, at, changes=changes)
        return Way(decision.role, decision.priority, next(iter(move.notify), None))

    return sorted(map(way, route(router, event, at, earlier).all), key=_order)


def _order(way: Way) -> tuple[str, str]:
    return way.role, way.priority


def _is_same(went: list[Way], would: list[Way]) -> bool:
    return len(went) == len(would) and all(
        _order(old) == _order(new) and old.person in (None, new.person)
        for old, new in zip(went, would, strict=True)
    )


def _lines(config: Config, found: Replayed) -> Iterator[str]:
    zone = config.roster.time_zone
    for event, went, would in found.differences:
        when = f"{event.received_at.astimezone(zone):%a %Y-%m-%d %H:%M}"
        yield f"{when}  {event.channel:<16} {event.kind:<15} {_said(went)}  ->  {_said(would)}"


def _said(ways: list[Way]) -> str:
    return " and ".join(f"{way.role}, {way.priority}: {way.person or 'nobody'}" for way in ways) or "nobody"
