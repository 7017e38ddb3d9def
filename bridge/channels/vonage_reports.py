"""What a Vonage account knows of its texts: the records of its Reports API, asked for synchronously.

https://developer.vonage.com/en/api/reports (records of `SMS` and of `MESSAGES`, inbound, with their words),
https://developer.vonage.com/en/reports/guides/how-to-handle-pagination
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from bridge.channels.asking import Asking, Page
from bridge.model.errors import SourceError

LONGEST = timedelta(hours=24)  # that Vonage lets a request span


class Record(BaseModel):
    """A text that came."""

    message_id: str = Field(min_length=1)
    sender: str | None = Field(default=None, alias="from")
    to: str | None = None
    message_body: str | None = None
    date_received: str | None = None


async def came_in(
    asking: Asking, account: str, product: str, since: datetime, until: datetime
) -> list[Record]:
    """The texts that came to the account between two moments. Raises `SourceError`."""
    found: list[Page] = []
    for begin, end in _spans(since, until + timedelta(seconds=1)):  # the end is exclusive
        query = {
            "account_id": account,
            "product": product,
            "direction": "inbound",
            "date_start": _written(begin),
            "date_end": _written(end),
            "include_message": "true",
        }
        place = f"/v2/reports/records?{urlencode(query)}"
        found += await asking.listed(place, f"{product} records", "records", _following)
    try:
        return [Record.model_validate(one) for one in found]
    except ValidationError:
        raise SourceError(f"Vonage's list of {product} records can't be read") from None


def _following(page: Page) -> str | None:
    if page.get("request_status") not in ("SUCCESS", "TRUNCATED"):
        raise SourceError("Vonage did not make the whole of its report")
    following: Any = page
    for name in ("_links", "next", "href"):
        following = following.get(name) if isinstance(following, dict) else None
    if following is None and page["request_status"] == "TRUNCATED":
        raise SourceError("Vonage's report goes on, and does not say where")
    return str(following) if following else None


def _spans(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    while since < until:
        end = min(since + LONGEST, until)
        yield since, end
        since = end


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
