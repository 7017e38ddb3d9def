"""What a channel must know of its source after a restart: figures, and nothing that a person wrote."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from bridge.model.ids import ChannelId
from bridge.store.database import Database, upsert
from bridge.store.tables import channel_note


async def recall(database: Database, channel: ChannelId) -> Mapping[str, int]:
    """The channel's last note; empty if it has none. Raises StoreUnavailableError."""
    async with database.read() as connection:
        query = select(channel_note.c.note).where(channel_note.c.channel == channel)
        note: Mapping[str, int] | None = (await connection.execute(query)).scalar_one_or_none()
    return note or {}


async def remember(database: Database, channel: ChannelId, note: Mapping[str, int]) -> None:
    """Keep a note in place of the last one. Raises StoreUnavailableError."""
    async with database.write() as connection:
        made = upsert(connection, channel_note).values(channel=channel, note=dict(note))
        made = made.on_conflict_do_update(index_elements=["channel"], set_={"note": dict(note)})
        await connection.execute(made)
