"""What a Plivo account knows of its texts: its message detail records. They hold no words.

https://www.plivo.com/docs/messaging/api/messages (list all messages: 20 on a page, 20 requests a minute)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, ValidationError

from bridge.channels.asking import Asking, Page
from bridge.model.errors import SourceError

PAGE_SIZE = 20
PAUSE = 3.1  # seconds from one page to the next


class Record(BaseModel):
    """That a text came."""

    message_uuid: str = Field(min_length=1)
    message_direction: Literal["inbound", "outbound"]
    from_number: str | None = None
    to_number: str | None = None
    message_time: str | None = None


async def came_in(asking: Asking, account: str, since: datetime, until: datetime) -> list[Record]:
    """The texts that came to the account between two moments. Raises `SourceError`."""
    query = {
        "message_direction": "inbound",
        "message_time__gte": _written(since),
        "message_time__lte": _written(until),
        "limit": str(PAGE_SIZE),
        "offset": "0",
    }
    place = f"/v1/Account/{quote(account, safe='')}/Message/?{urlencode(query)}"
    listed = await asking.listed(place, "messages", "objects", _following, pause=PAUSE)
    try:
        records = [Record.model_validate(one) for one in listed]
    except ValidationError:
        raise SourceError("Plivo's list of messages can't be read") from None
    return [one for one in records if one.message_direction == "inbound"]


def _following(page: Page) -> str | None:
    meta = page.get("meta")
    if not isinstance(meta, dict) or "next" not in meta:
        raise SourceError("Plivo's list of messages can't be read")
    return str(meta["next"]) if meta["next"] else None


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
