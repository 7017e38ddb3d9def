"""The last good copy of each calendar that is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config.roster import CalendarConfig
from bridge.store.tables import calendar_copy


async def keep(connection: AsyncConnection, name: str, url: str, text: str, now: datetime) -> None:
    """Keep the last good copy, and only that."""
    await connection.execute(delete(calendar_copy).where(calendar_copy.c.name == name))
    await connection.execute(insert(calendar_copy).values(name=name, url=url, text=text, fetched_at=now))


async def copies(connection: AsyncConnection, wanted: Mapping[str, CalendarConfig]) -> dict[str, str]:
    """The last good copies of calendars, by name. One that came from another address is none."""
    found = (await connection.execute(select(calendar_copy))).all()
    return {row.name: row.text for row in found if row.name in wanted and wanted[row.name].url == row.url}
