"""What people say in rooms, when what it is about has gone meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import select, update

from bridge.engine.answers import Answers
from bridge.model.doors import Courier, RawRoomEvent, RoomMessage
from bridge.model.ids import EventId, RoomId
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.store import matrix_inbox
from bridge.store.tables import intake, outbox
from tests.engine.conftest import House

ROOM, PAGE, ADA = RoomId("!duty:x"), EventId("$page"), "@ana:nightbell.test"


async def say(house: House, event: str, text: str, about: EventId | None) -> None:
    """Let the bot hear something that was written in the duty room."""
    relation = {"m.in_reply_to": {"event_id": about}} if about else {}
    written = {
        "event_id": event,
        "sender": ADA,
        "type": "m.room.message",
        "content": {"body": text, "m.relates_to": relation},
        "origin_server_ts": round(house.now().timestamp() * 1000),
    }
    async with house.database.write() as connection:
        await matrix_inbox.keep_events(connection, ROOM, [written], house.now())


async def read(raw: RawRoomEvent) -> RoomMessage:
    content = cast("dict[str, Any]", raw.content)
    about = content["m.relates_to"].get("m.in_reply_to", {}).get("event_id")
    text = Phi(content["body"])
    return RoomMessage(raw.event, raw.room, raw.sender, raw.sent_at, None, text, about, trusted=True)


async def test_words_about_what_is_destroyed_are_answered_and_keep_nobody_elses_back(house: House) -> None:
    await house.text("chest pain")
    async with house.database.write() as connection:
        await matrix_inbox.set_room(connection, "role:duty", ROOM, house.now())
        await connection.execute(
            update(outbox).where(outbox.c.purpose == "page").values(event=PAGE, room=ROOM, state="sent")
        )
    answers = Answers(house.desk, cast("Courier", SimpleNamespace(read=read)), lambda: None)
    gone = await house.text("chest pain that is over")
    async with house.database.write() as connection:
        await connection.execute(
            update(outbox).where(outbox.c.page == gone.id).values(event="$gone", room=ROOM, state="sent")
        )
        query = select(intake.c.data_key).where(intake.c.id == gone.intake)
        key = (await connection.execute(query)).scalar_one()
        await house.keys.destroy(connection, [key], house.now().date().isoformat())
    await say(house, "$1", "what was this about?", EventId("$gone"))
    await say(house, "$2", "accept", PAGE)
    await answers.step()
    assert PageState.ACCEPTED in [page.state for page in await house.pages()]
