"""Who may do what with what is kept. Whoever asks is named, and a refusal is recorded like everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from bridge.house import Archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.store import leavers, ledger

By = Annotated[str, typer.Option("--by", help="Your Matrix ID; it is recorded.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done; nothing is changed or recorded.")
]


class NotAllowedError(NightbellError):
    """Somebody asked for what is not theirs to do."""


class Duty(StrEnum):
    """What an administrator is for."""

    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"
    COMPLIANCE = "compliance"


async def require(archive: Archive, by: str, duty: Duty, command: str) -> None:
    """Let `by` in if nightbell.yaml names them and they have not left, or raise NotAllowedError. Either is recorded."""
    rooms, administrators = archive.config.nightbell.rooms, archive.config.nightbell.administrators
    named = {
        Duty.OPERATOR: administrators.operator or rooms.operations.members,
        Duty.ADMINISTRATOR: administrators.administrator
        or administrators.operator
        or rooms.operations.members,
        Duty.COMPLIANCE: administrators.compliance or rooms.operations.members,
    }
    async with archive.database.read() as connection:
        has_left = by in await leavers.all_of_them(connection)
    allowed = by in named[duty] and not has_left
    refusal = "taken_out" if has_left else f"no_{duty.value}"
    asked = (
        Record(Action.LOGGED_IN, by, objects={"command": command}, outcome=duty.value)
        if allowed
        else Record(Action.REFUSED, by, objects={"command": command}, outcome=refusal)
    )
    async with archive.database.write() as connection:
        await ledger.append(connection, [asked], datetime.now(UTC))
    if allowed:
        return
    if has_left:
        message = f"{by} was taken out by nightbell offboard; this was recorded"
        raise NotAllowedError(message)
    message = f"{by} is not among administrators.{duty.value} in nightbell.yaml; this was recorded"
    raise NotAllowedError(message)
