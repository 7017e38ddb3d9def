"""`nightbell break-glass`: read a page's content in an emergency. It is possible, loud and recorded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from bridge.cli.administrators import By, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.endings import told
from bridge.config import Config
from bridge.engine import operations
from bridge.house import Archive, open_archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.model.event import IntakeEvent
from bridge.model.ids import PageId
from bridge.model.phi import reveal_optional
from bridge.store import ledger, retention
from bridge.store.inbox import IntakeStore


class NothingToOpenError(NightbellError):
    """A page that never was, or whose content was destroyed."""


def break_glass(
    page: Annotated[str, typer.Option(help="The page's id.")],
    by: By,
    reason: Annotated[str, typer.Option(help="Why; the operations room reads it. Name no patient.")],
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show what a page says. The operations room is told at once, and the ledger keeps who looked."""
    with told():
        for event in asyncio.run(_open(load_or_exit(config), PageId(page), by, reason)):
            typer.echo(
                f"{reveal_optional(event.caller) or 'no number'}  {reveal_optional(event.caller_name) or ''}"
            )
            typer.echo(event.body.reveal())


async def _open(config: Config, page: PageId, by: str, reason: str) -> list[IntakeEvent]:
    async with open_archive(config) as archive:
        await require(archive, by, Duty.COMPLIANCE, "break-glass")
        events = await _events(archive, page)
        now = datetime.now(UTC)
        async with archive.database.write() as connection:
            text = f"⚠️ {by} has opened the content of page {page}: {reason}"
            await operations.tell(connection, archive.keys, text, now)
            await ledger.append(connection, [Record(Action.OPENED, by, page=page)], now)
        # Only now: what could not be recorded is not shown.
        return events


async def _events(archive: Archive, page: PageId) -> list[IntakeEvent]:
    inbox = IntakeStore(archive.database, archive.keys, lambda: datetime.now(UTC), lambda: None)
    async with archive.database.read() as connection:
        found = await retention.intakes_of(connection, page)
        if not found:
            raise NothingToOpenError(
                f"there is no page {page} with content; what became of one shows: "
                f"nightbell ledger show --page {page}"
            )
        return [(await inbox.event_of(connection, intake))[0] for intake in found]
