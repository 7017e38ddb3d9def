"""What a Telnyx account knows of its texts: its detail records, and for ten days the messages themselves.

https://developers.telnyx.com/api-reference/detail-records/search-detail-records,
https://developers.telnyx.com/api-reference/messages/retrieve-a-message
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, ValidationError

from bridge.channels.asking import Asking, Page
from bridge.channels.moments import read_moment
from bridge.model.errors import SourceError

PAGE_SIZE = 50


class Record(BaseModel):
    """That a text came: its id, from whom (`cli`), to which number (`cld`), and when."""

    uuid: str = Field(min_length=1)
    direction: Literal["inbound", "outbound"]
    cli: str | None = None
    cld: str | None = None
    created_at: str | None = None


async def came_in(asking: Asking, numbers: Collection[str], since: datetime, until: datetime) -> list[Record]:
    """The texts that came to these numbers between two moments. Raises `SourceError`."""
    filters = {
        "filter[record_type]": "messaging",
        "filter[direction]": "inbound",
        # Telnyx documents days here: within them, it is compared.
        "filter[created_at][gte]": since.date().isoformat(),
        "filter[created_at][lt]": (until + timedelta(days=1)).date().isoformat(),
        "sort": "-created_at",
        "page[size]": str(PAGE_SIZE),
    }
    numbering = count(2)

    def following(page: Page) -> str | None:
        number, total = next(numbering), (page.get("meta") or {}).get("total_pages")
        older = all(_is_before(one.get("created_at"), since) for one in page["data"])
        last = not page["data"] or (isinstance(total, int) and number > total)
        return None if older or last else _place(filters | {"page[number]": str(number)})

    listed = await asking.listed(_place(filters | {"page[number]": "1"}), "detail records", "data", following)
    try:
        records = [Record.model_validate(one) for one in listed]
    except ValidationError:
        raise SourceError("Telnyx's list of detail records can't be read") from None
    ours = (one for one in records if one.direction == "inbound" and one.cld in numbers)
    return [one for one in ours if not _is_before(one.created_at, since) and not _is_after(one, until)]


async def retrieve(asking: Asking, record: Record) -> dict[str, Any]:
    """A message itself, as its webhook has it. Raises `SourceError`."""
    message = (await asking.get(f"/v2/messages/{quote(record.uuid, safe='')}", "messages")).get("data")
    if not isinstance(message, dict) or message.get("direction") != "inbound":
        raise SourceError("Telnyx's message can't be read")
    return message


def _place(query: dict[str, str]) -> str:
    return f"/v2/detail_records?{urlencode(query)}"


def _is_before(written: Any, moment: datetime) -> bool:
    at = read_moment(str(written))
    return at is not None and at < moment


def _is_after(record: Record, moment: datetime) -> bool:
    at = read_moment(record.created_at)
    return at is not None and at > moment
