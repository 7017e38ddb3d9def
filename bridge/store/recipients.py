"""Which devices were given the keys of which session, and why others were not: what *delivered* rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import DeviceId, RoomId, UserId
from bridge.store.tables import session_recipient


class Outcome(StrEnum):
    """What came of giving a device the key."""

    SHARED = "shared"
    NO_ONE_TIME_KEY = "no_one_time_key"
    REFUSED_UNSIGNED = "not_signed_by_its_owner"
    REFUSED_CHANGED = "owner_has_a_changed_identity"
    REFUSED_BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One device, and whether it can read a session."""

    user: UserId
    device: DeviceId
    identity_key: str
    outcome: Outcome


async def keep(
    connection: AsyncConnection, room: RoomId, session: str, given: Iterable[Recipient], now: datetime
) -> None:
    """Record the recipients of a new session."""
    await connection.execute(delete(session_recipient).where(session_recipient.c.session_id == session))
    await add(connection, room, session, given, now)


async def add(
    connection: AsyncConnection, room: RoomId, session: str, given: Iterable[Recipient], now: datetime
) -> None:
    """Record what came of further devices; the same device id again is a new device."""
    rows = [
        {
            "session_id": session,
            "user_id": recipient.user,
            "device_id": recipient.device,
            "identity_key": recipient.identity_key,
            "room_id": room,
            "outcome": recipient.outcome.value,
            "at": now,
        }
        for recipient in given
    ]
    devices = tuple_(session_recipient.c.user_id, session_recipient.c.device_id)
    await connection.execute(
        delete(session_recipient).where(
            session_recipient.c.session_id == session,
            devices.in_([(row["user_id"], row["device_id"]) for row in rows]),
        )
    )
    if rows:
        await connection.execute(insert(session_recipient), rows)


async def of_session(connection: AsyncConnection, session: str) -> list[Recipient]:
    """Every device that was considered for a session."""
    query = select(session_recipient).where(session_recipient.c.session_id == session)
    return [
        Recipient(UserId(row.user_id), DeviceId(row.device_id), row.identity_key, Outcome(row.outcome))
        for row in (await connection.execute(query)).all()
    ]


async def readers(connection: AsyncConnection, session: str) -> frozenset[UserId]:
    """The people of whom at least one device holds the keys of a session."""
    return frozenset(r.user for r in await of_session(connection, session) if r.outcome is Outcome.SHARED)
