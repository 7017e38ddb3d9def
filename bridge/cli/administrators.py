"""Who may do what with what is kept. Whoever asks is named, and a refusal is recorded like everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from bridge.app import Archive
from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.store import ledger


class NotAllowedError(NightbellError):
    """Somebody asked for what is not theirs to do."""


class Duty(StrEnum):
    """What an administrator is for."""

    OPERATOR = "operator"
    COMPLIANCE = "compliance"


async def require(archive: Archive, by: str, duty: Duty, command: str) -> None:
    """Let `by` in, or raise NotAllowedError unless nightbell.yaml names them for this. Either is recorded."""
    rooms, administrators = archive.config.nightbell.rooms, archive.config.nightbell.administrators
    named = {
        Duty.OPERATOR: administrators.operator or rooms.operations.members,
        Duty.COMPLIANCE: administrators.compliance or rooms.operations.members,
    }
    allowed = by in named[duty]
    asked = (
        Record(Action.LOGGED_IN, by, objects={"command": command}, outcome=duty.value)
        if allowed
        else Record(Action.REFUSED, by, objects={"command": command}, outcome=f"no_{duty.value}")
    )
    async with archive.database.write() as connection:
        await ledger.append(connection, [asked], datetime.now(UTC))
    if allowed:
        return
    message = f"{by} is not among administrators.{duty.value} in nightbell.yaml; this was recorded"
    raise NotAllowedError(message)
