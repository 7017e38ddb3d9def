"""Who holds a role: what commands have changed, and the record of what was ever so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import PersonId, RoleId, UserId
from bridge.policy.schedule import Change
from bridge.store.tables import heartbeat, held, shift_change


@dataclass(frozen=True, slots=True)
class Held:
    """From `start` on, `holder` had the role, until the next record; None if nobody had it."""

    role: RoleId
    start: datetime
    holder: PersonId | None
    user: UserId | None
    config_hash: str


async def add_change(connection: AsyncConnection, change: Change, by: UserId, now: datetime) -> None:
    """Somebody took or was given a role."""
    await connection.execute(
        insert(shift_change).values(
            role=change.role,
            start_at=change.start,
            until=change.until,
            holder=change.holder,
            made_by=by,
            made_at=now,
        )
    )


async def changes(connection: AsyncConnection, after: datetime) -> tuple[Change, ...]:
    """The changes that hold after an instant, in the order in which they were made."""
    query = select(shift_change).where(shift_change.c.until > after).order_by(shift_change.c.id)
    return tuple(
        Change(RoleId(row.role), row.start_at, row.until, PersonId(row.holder))
        for row in (await connection.execute(query)).all()
    )


async def record_holder(connection: AsyncConnection, record: Held) -> None:
    """Add to the record; it is never changed."""
    await connection.execute(
        insert(held).values(
            role=record.role,
            start_at=record.start,
            holder=record.holder,
            user_id=record.user,
            config_hash=record.config_hash,
        )
    )


async def has_passed(connection: AsyncConnection, at: datetime) -> bool:
    """Whether the bridge was seen alive later than at an instant, so that the record of it is whole."""
    query = select(exists().where(heartbeat.c.at > at))
    return bool((await connection.execute(query)).scalar_one())


async def held_at(connection: AsyncConnection, role: RoleId, at: datetime) -> Held | None:
    """Who had a role at an instant, by the record; None if the record begins later."""
    query = select(held).where(held.c.role == role, held.c.start_at <= at).order_by(held.c.id.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    holder = PersonId(row.holder) if row.holder else None
    user = UserId(row.user_id) if row.user_id else None
    return Held(RoleId(row.role), row.start_at, holder, user, row.config_hash)
