"""Which changed identities the operations room has been told of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import UserId
from bridge.store.tables import identity_alert


async def report_once(connection: AsyncConnection, user: UserId, master_key: str, now: datetime) -> bool:
    """True the first time that this identity of a person is to be reported."""
    query = select(identity_alert.c.user_id).where(
        identity_alert.c.user_id == user, identity_alert.c.master_key == master_key
    )
    if (await connection.execute(query)).first() is not None:
        return False
    await connection.execute(
        insert(identity_alert).values(user_id=user, master_key=master_key, reported_at=now, approved=False)
    )
    return True


async def approve(connection: AsyncConnection, user: UserId) -> bool:
    """Somebody vouches for a person's present identity. False if none of theirs was reported."""
    approved = await connection.execute(
        update(identity_alert)
        .where(identity_alert.c.user_id == user, identity_alert.c.approved.is_(False))
        .values(approved=True)
    )
    return approved.rowcount > 0
