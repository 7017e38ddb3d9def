"""Which changed identities the operations room has been told of, and which of them were approved."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import UserId
from bridge.store.tables import identity_alert


async def report_once(connection: AsyncConnection, user: UserId, master_key: str, now: datetime) -> bool:
    """True if this is news: it was not the last that was reported of this person, or was approved in between."""
    query = (
        select(identity_alert)
        .where(identity_alert.c.user_id == user)
        .order_by(identity_alert.c.reported_at.desc())
        .limit(1)
    )
    last = (await connection.execute(query)).one_or_none()
    if last is not None and last.master_key == master_key and not last.approved:
        return False
    await connection.execute(
        delete(identity_alert).where(
            identity_alert.c.user_id == user, identity_alert.c.master_key == master_key
        )
    )
    await connection.execute(
        insert(identity_alert).values(user_id=user, master_key=master_key, reported_at=now, approved=False)
    )
    return True


async def waiting(connection: AsyncConnection, user: UserId) -> str | None:
    """The master key of the identity that was reported last, if nobody has vouched for it."""
    query = (
        select(identity_alert.c.master_key, identity_alert.c.approved)
        .where(identity_alert.c.user_id == user)
        .order_by(identity_alert.c.reported_at.desc())
        .limit(1)
    )
    last = (await connection.execute(query)).one_or_none()
    return None if last is None or last.approved else str(last.master_key)


async def approve(connection: AsyncConnection, user: UserId, master_key: str) -> None:
    """Somebody vouches for an identity."""
    await connection.execute(
        update(identity_alert)
        .where(identity_alert.c.user_id == user, identity_alert.c.master_key == master_key)
        .values(approved=True)
    )
