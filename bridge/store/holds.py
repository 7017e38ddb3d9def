"""Legal holds, as rows. The reason is sealed: it may name a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind
from bridge.store.keys import KeyRing
from bridge.store.tables import hold

_NONE_NEW = text("LOCK TABLE hold IN SHARE MODE")


@dataclass(frozen=True, slots=True)
class Placed:
    """A hold, and how it came to be."""

    hold: Hold
    by: str
    at: datetime
    reason: Phi[str]


async def place(
    connection: AsyncConnection, keys: KeyRing, placed: Hold, *, reason: Phi[str], by: str, now: datetime
) -> None:
    """Place a hold."""
    key = await keys.key_of_hold(connection, placed.id)
    await connection.execute(
        insert(hold).values(
            id=placed.id,
            kind=placed.kind.value,
            value=placed.value,
            start_at=placed.start,
            until=placed.until,
            sealed_reason=key.seal(Phi(reason.reveal().encode()), f"hold {placed.id}"),
            placed_by=by,
            placed_at=now,
        )
    )


async def lift(connection: AsyncConnection, hold_id: str, by: str, now: datetime) -> bool:
    """End a hold; what it kept goes by its own clock. False if there is no such hold."""
    ended = await connection.execute(
        update(hold)
        .where(hold.c.id == hold_id, hold.c.lifted_at.is_(None))
        .values(lifted_by=by, lifted_at=now)
    )
    return ended.rowcount == 1


async def placed(connection: AsyncConnection, keys: KeyRing) -> list[Placed]:
    """The holds in force, with who placed them and why."""
    query = select(hold).where(hold.c.lifted_at.is_(None)).order_by(hold.c.placed_at)
    found = []
    for row in (await connection.execute(query)).all():
        key = await keys.key_of_hold(connection, row.id)
        reason = key.open(row.sealed_reason, f"hold {row.id}").reveal().decode()
        found.append(Placed(_hold(row), row.placed_by, row.placed_at, Phi(reason)))
    return found


async def in_force(connection: AsyncConnection) -> list[Hold]:
    """The holds that nobody has lifted."""
    rows = (await connection.execute(select(hold).where(hold.c.lifted_at.is_(None)))).all()
    return [_hold(row) for row in rows]


async def in_force_until_commit(connection: AsyncConnection) -> list[Hold]:
    """The holds that nobody has lifted, where none can be placed before this transaction has ended."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        await connection.execute(_NONE_NEW)
    return await in_force(connection)


def _hold(row: Row[Any]) -> Hold:
    return Hold(row.id, HoldKind(row.kind), row.value, row.start_at, row.until)
