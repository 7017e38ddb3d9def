"""What a channel must know of its source after a restart."""

from __future__ import annotations

from bridge.model.ids import ChannelId
from bridge.store import channel_notes
from bridge.store.database import Database

PBX = ChannelId("pbx")


async def test_the_last_note_of_a_channel_is_kept(database: Database) -> None:
    assert await channel_notes.recall(database, PBX) == {}
    for note in ({"100@default": 1, "101@default": 0}, {"100@default": 2}):
        await channel_notes.remember(database, PBX, note)
        assert await channel_notes.recall(database, PBX) == note
    assert await channel_notes.recall(database, ChannelId("pbx2")) == {}
