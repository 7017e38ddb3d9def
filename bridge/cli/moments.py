"""A moment as it is given on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import typer

from bridge.config.values import parse_local
from bridge.policy.times import instant


def moment(text: str | None, zone: ZoneInfo, option: str = "--at") -> datetime:
    """The instant of a local time in a zone; now if there is none. `option` is what it was given as."""
    if text is None:
        return datetime.now(UTC)
    try:
        return instant(parse_local(text), zone)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {error}") from None
