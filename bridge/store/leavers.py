"""People who were taken out of everything, whatever the files still say of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import RoomId, UserId
from bridge.store.tables import leaver, member, room, session_recipient


async def take_out(connection: AsyncConnection, user: UserId, by: str, now: datetime) -> None:
    """From now on they are in no room and get no key."""
    await connection.execute(delete(leaver).where(leaver.c.user_id == user))
    await connection.execute(insert(leaver).values(user_id=user, taken_out_by=by, at=now))


async def take_back(connection: AsyncConnection, user: UserId) -> bool:
    """They count again, where the files name them. False if they were not taken out."""
    return (await connection.execute(delete(leaver).where(leaver.c.user_id == user))).rowcount == 1


async def all_of_them(connection: AsyncConnection) -> frozenset[UserId]:
    """Everybody who was taken out."""
    return frozenset(UserId(user) for user in (await connection.execute(select(leaver.c.user_id))).scalars())


async def is_known(connection: AsyncConnection, user: UserId) -> bool:
    """Whether they were ever in a room of ours, or given a key."""
    seen = select(member.c.user_id).where(member.c.user_id == user)
    given = select(session_recipient.c.user_id).where(session_recipient.c.user_id == user)
    return (await connection.execute(seen.union(given).limit(1))).first() is not None


async def rooms_with(connection: AsyncConnection, user: UserId) -> list[RoomId]:
    """Our rooms that they are in or invited to."""
    query = (
        select(member.c.room_id)
        .join(room, room.c.room_id == member.c.room_id)
        .where(member.c.user_id == user, member.c.membership.in_(["join", "invite"]))
    )
    return [RoomId(found) for found in (await connection.execute(query)).scalars()]


async def rooms_with_their_key(connection: AsyncConnection, user: UserId) -> list[RoomId]:
    """Rooms whose latest key one of their devices was given."""
    query = select(
        session_recipient.c.room_id,
        session_recipient.c.session_id,
        session_recipient.c.user_id,
        session_recipient.c.at,
    ).where(session_recipient.c.outcome == "shared")
    latest: dict[str, tuple[datetime, str]] = {}
    given: dict[str, set[str]] = {}
    for row in (await connection.execute(query)).all():
        given.setdefault(row.session_id, set()).add(row.user_id)
        latest[row.room_id] = max(latest.get(row.room_id, (row.at, row.session_id)), (row.at, row.session_id))
    return [RoomId(found) for found, (_, session) in latest.items() if user in given[session]]
