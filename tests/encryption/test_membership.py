"""What we have done to a member ourselves never undoes what the homeserver has told of them since."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.model.ids import RoomId, UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database

NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
ROOM, ANN = RoomId("!room:nightbell.test"), UserId("@ann:nightbell.test")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("was", "told", "becomes", "is_now"),
    [
        (None, None, "invite", "invite"),
        (None, "join", "invite", "join"),
        ("leave", None, "invite", "invite"),
        ("leave", "join", "invite", "join"),
        ("join", None, "leave", "leave"),
        ("invite", "join", "leave", "join"),
    ],
)
async def test_the_homeserver_has_the_last_word(
    database: Database, was: str | None, told: str | None, becomes: str, is_now: str
) -> None:
    async with database.write() as connection:
        for membership in filter(None, (was, told)):
            await matrix_inbox.set_member(connection, ROOM, ANN, membership, NOW)
        await matrix_inbox.move_member(connection, ROOM, ANN, was, becomes)
        assert await matrix_inbox.members(connection, ROOM) == {ANN: is_now}
