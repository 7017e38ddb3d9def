"""Moments as sources write and sign them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be a time between the years 1 and 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def from_unix(seconds: str) -> datetime | None:
    """A moment of so many seconds since 1970; None if the text is no such number."""
    return datetime.fromtimestamp(int(seconds), UTC) if re.fullmatch("[0-9]{1,11}", seconds) else None


def read_moment(written: str | None) -> datetime | None:
    """A moment as ISO 8601 has it, in UTC where it does not say; None if the text is none."""
    try:
        moment = datetime.fromisoformat(written or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
