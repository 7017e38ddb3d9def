import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from bridge.matrix.homeserver import Homeserver
from bridge.matrix.rooms import RoomPlan, Rooms
from bridge.model.doors import Destination
from bridge.model.ids import RoleId, RoomId, UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database

ROOM, ANN, BEN = RoomId("!room"), UserId("@ann:x"), UserId("@ben:x")


class SlowHomeserver:
    """Answers a removal when it is told to."""

    bot = UserId("@nightbell:x")

    def __init__(self) -> None:
        self.asked, self.answering = asyncio.Event(), asyncio.Event()

    async def request(self, *_what: Any, **_more: Any) -> dict[str, Any]:
        self.asked.set()
        await self.answering.wait()
        return {}


async def test_whoever_asks_for_a_room_while_somebody_is_removed_gets_it_afterwards(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'rows.db'}")
    await database.migrate()
    destination = Destination(RoleId("cardiology"))
    now = datetime.now(UTC)
    async with database.write() as connection:
        await matrix_inbox.set_room(connection, str(destination), ROOM, now)
        for user in (ANN, BEN):
            await matrix_inbox.set_member(connection, ROOM, user, "join", now)
    homeserver = SlowHomeserver()
    rooms = Rooms(cast("Homeserver", homeserver), database, lambda: now, members_changed=lambda: None)
    plan = RoomPlan(destination, "Cardiology", frozenset({ANN}), False, 1, 1)  # noqa: FBT003

    first = asyncio.create_task(rooms.ensure(plan))
    await homeserver.asked.wait()
    second = asyncio.create_task(rooms.ensure(plan))
    await asyncio.sleep(0.05)
    assert not second.done()

    homeserver.answering.set()
    assert (await first, await second) == (ROOM, ROOM)
    async with database.read() as connection:
        assert (await matrix_inbox.members(connection, ROOM))[BEN] == "leave"
    await database.close()
