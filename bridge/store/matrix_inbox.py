"""What the homeserver brought, kept in the same transaction as the position it was read up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.doors import RawRoomEvent
from bridge.model.ids import EventId, RoomId, UserId
from bridge.store.database import upsert
from bridge.store.tables import (
    EPOCH,
    MICROSECOND,
    device_message,
    inbound,
    member,
    room,
    room_file,
    room_state,
    sync_position,
)

EVENT_ID = re.compile(r"\$[!-~]{1,254}")
LATEST = 253_402_300_799_999  # milliseconds; the last of the year 9999


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """Something for the encryption machine: a to-device event, a change of device lists, a count of keys."""

    seq: int
    kind: str
    content: dict[str, Any]


async def position(connection: AsyncConnection, device: str) -> str | None:
    """The sync token up to which everything is stored."""
    query = select(sync_position.c.next_batch).where(sync_position.c.device == device)
    token: str | None = (await connection.execute(query)).scalar_one_or_none()
    return token


async def set_position(connection: AsyncConnection, device: str, next_batch: str) -> None:
    """Everything up to `next_batch` is stored by this same transaction."""
    statement = upsert(connection, sync_position).values(device=device, next_batch=next_batch)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["device"], set_={"next_batch": next_batch})
    )


async def keep_events(
    connection: AsyncConnection, room_id: RoomId, events: Iterable[Mapping[str, Any]], received_at: datetime
) -> int:
    """Keep room events that nobody has kept yet; returns how many were new."""
    new = 0
    for event in events:
        statement = upsert(connection, inbound).values(
            event_id=event["event_id"],
            room_id=room_id,
            sender=event["sender"],
            type=event["type"],
            content=event["content"],
            about=_about(event["content"]),
            sent_at=_from_milliseconds(event["origin_server_ts"]),
            received_at=received_at,
            state="todo",
            attempts=0,
        )
        result = await connection.execute(statement.on_conflict_do_nothing(index_elements=["event_id"]))
        new += result.rowcount
    return new


async def known_events(connection: AsyncConnection, events: Iterable[str]) -> set[EventId]:
    """Which of these events are stored already."""
    query = select(inbound.c.event_id).where(inbound.c.event_id.in_(list(events)))
    return {EventId(event) for event in (await connection.execute(query)).scalars()}


async def waiting_events(connection: AsyncConnection, limit: int) -> list[RawRoomEvent]:
    """Stored events that nobody has acted on, in the order in which they came; last those that were tried before."""
    query = (
        select(inbound)
        .where(inbound.c.state == "todo")
        .order_by(inbound.c.attempts, inbound.c.seq)
        .limit(limit)
    )
    return [
        RawRoomEvent(
            seq=row.seq,
            event=EventId(row.event_id),
            room=RoomId(row.room_id),
            sender=UserId(row.sender),
            type=row.type,
            content=row.content,
            sent_at=row.sent_at,
            received_at=row.received_at,
            attempts=row.attempts,
        )
        for row in (await connection.execute(query)).all()
    ]


async def settle_event(connection: AsyncConnection, seq: int, state: str) -> None:
    """An event has been acted on (`done`), or can't be read (`unreadable`). Its content is not needed again."""
    # What it asked for may have destroyed the event itself.
    alive = (inbound.c.seq == seq) & (inbound.c.state != "destroyed")
    await connection.execute(update(inbound).where(alive).values(state=state, content={}))


async def keep_files(connection: AsyncConnection, event: EventId, files: Iterable[str]) -> None:
    """The files that a message shows (mxc://...), so that they can go with it."""
    rows = [{"event_id": event, "mxc": mxc} for mxc in dict.fromkeys(files)]
    if rows:
        statement = upsert(connection, room_file)
        await connection.execute(statement.on_conflict_do_nothing(index_elements=["event_id", "mxc"]), rows)


async def wrote(connection: AsyncConnection, user: UserId, event: EventId, room: RoomId) -> bool:
    """Whether an event of a room is what a person wrote there, and still there."""
    query = select(inbound.c.seq).where(
        inbound.c.event_id == event,
        inbound.c.room_id == room,
        inbound.c.sender == user,
        inbound.c.state != "destroyed",
    )
    return (await connection.execute(query)).first() is not None


async def count_attempt(connection: AsyncConnection, seq: int) -> None:
    """An event could not be read yet; its key may still come."""
    await connection.execute(
        update(inbound).where(inbound.c.seq == seq).values(attempts=inbound.c.attempts + 1)
    )


async def keep_device_messages(connection: AsyncConnection, messages: Iterable[tuple[str, Any]]) -> None:
    """Keep what the encryption machine must see."""
    rows = [{"kind": kind, "content": content} for kind, content in messages]
    if rows:
        await connection.execute(insert(device_message), rows)


async def waiting_device_messages(connection: AsyncConnection, limit: int) -> list[DeviceMessage]:
    """What the encryption machine has not seen yet, in order."""
    query = select(device_message).order_by(device_message.c.seq).limit(limit)
    return [DeviceMessage(row.seq, row.kind, row.content) for row in (await connection.execute(query)).all()]


async def drop_device_message(connection: AsyncConnection, seq: int) -> None:
    """The encryption machine has seen it."""
    await connection.execute(delete(device_message).where(device_message.c.seq == seq))


async def set_member(
    connection: AsyncConnection, room_id: RoomId, user: UserId, membership: str, now: datetime
) -> None:
    """The membership that the homeserver reports, and that it did so just now."""
    joined = now if membership == "join" else None
    statement = upsert(connection, member).values(
        room_id=room_id, user_id=user, membership=membership, joined_at=joined
    )
    # Who is in a room and changes their name has not joined it again.
    stays = (member.c.membership == "join", member.c.joined_at)
    since = case(stays, else_=statement.excluded.joined_at) if membership == "join" else member.c.joined_at
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["room_id", "user_id"], set_={"membership": membership, "joined_at": since}
        )
    )


async def move_member(
    connection: AsyncConnection, room_id: RoomId, user: UserId, was: str | None, becomes: str
) -> None:
    """A membership that we have changed ourselves, unless the homeserver has told of it, or of a later one, already."""
    if was is None:
        row = upsert(connection, member).values(room_id=room_id, user_id=user, membership=becomes)
        await connection.execute(row.on_conflict_do_nothing(index_elements=["room_id", "user_id"]))
        return
    await connection.execute(
        update(member)
        .where(member.c.room_id == room_id, member.c.user_id == user, member.c.membership == was)
        .values(membership=becomes)
    )


async def members(connection: AsyncConnection, room_id: RoomId) -> dict[UserId, str]:
    """Everybody a room knows of, with their membership."""
    query = select(member.c.user_id, member.c.membership).where(member.c.room_id == room_id)
    return {UserId(row.user_id): row.membership for row in (await connection.execute(query)).all()}


async def rooms_of(connection: AsyncConnection, user: UserId) -> list[RoomId]:
    """The rooms that a user has joined or is invited to."""
    query = select(member.c.room_id).where(
        member.c.user_id == user, member.c.membership.in_(["join", "invite"])
    )
    return [RoomId(found) for found in (await connection.execute(query)).scalars()]


async def set_state(
    connection: AsyncConnection, room_id: RoomId, event_type: str, content: dict[str, Any]
) -> None:
    """A state event with an empty key, as the homeserver reports it."""
    statement = upsert(connection, room_state).values(room_id=room_id, type=event_type, content=content)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["room_id", "type"], set_={"content": content})
    )


async def state(connection: AsyncConnection, room_id: RoomId, event_type: str) -> dict[str, Any] | None:
    """The content of a state event with an empty key."""
    query = select(room_state.c.content).where(
        room_state.c.room_id == room_id, room_state.c.type == event_type
    )
    content: dict[str, Any] | None = (await connection.execute(query)).scalar_one_or_none()
    return content


async def rooms(connection: AsyncConnection) -> dict[str, RoomId]:
    """The room of each destination."""
    query = select(room.c.destination, room.c.room_id)
    return {row.destination: RoomId(row.room_id) for row in (await connection.execute(query)).all()}


async def set_room(connection: AsyncConnection, destination: str, room_id: RoomId, now: datetime) -> None:
    """A destination's room, made or found or moved by a tombstone."""
    statement = upsert(connection, room).values(destination=destination, room_id=room_id, created_at=now)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["destination"], set_={"room_id": room_id})
    )


async def lose_room(connection: AsyncConnection, room_id: RoomId) -> None:
    """A room that is no destination's any more."""
    await connection.execute(delete(room).where(room.c.room_id == room_id))
    await connection.execute(delete(member).where(member.c.room_id == room_id))


def _about(content: Any) -> str | None:
    """The event that a message answers, so that it can go away with it. Relations are never encrypted."""
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict):
        return None
    reply = relation.get("m.in_reply_to")
    replied = reply.get("event_id") if isinstance(reply, dict) else None
    about = relation.get("event_id") or replied
    # Anybody in a room can write anything there, and a database does not take every character.
    return about if isinstance(about, str) and EVENT_ID.fullmatch(about) else None


def _from_milliseconds(timestamp: int) -> datetime:
    """The moment that a sender's homeserver says, or the nearest that there is."""
    return EPOCH + min(max(timestamp, 0), LATEST) * 1000 * MICROSECOND
