"""The change from one operator key to the next, in steps of one transaction; after a crash between two it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.store import nodes
from bridge.store.database import upsert
from bridge.store.nodes import Behind
from bridge.store.tables import day_key, lasting_key, root_key
from bridge.vault import Vault

_LOCK = text("SELECT pg_advisory_xact_lock(78106)")  # of operator keys


async def take_turn(connection: AsyncConnection) -> None:
    """On PostgreSQL, wait for whoever starts a bridge or changes the key in force; SQLite has one writer."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK)


@dataclass(frozen=True, slots=True)
class RootStatus:
    """An operator's key, and how many keys it wraps."""

    id: str
    since: datetime
    day_keys: int
    lasting_keys: int
    in_force: bool


async def status(connection: AsyncConnection) -> list[RootStatus]:
    """Which operator keys wrap how much."""
    found = []
    for root in (await connection.execute(select(root_key).order_by(root_key.c.first_used_at))).all():
        counts = [
            (await connection.execute(select(func.count()).where(table.c.root_key == root.id))).scalar_one()
            for table in (day_key, lasting_key)
        ]
        found.append(
            RootStatus(root.id, root.first_used_at, counts[0], counts[1], in_force=bool(root.in_force))
        )
    return found


async def put_in_force(
    connection: AsyncConnection, vault: Vault, silent: Mapping[str, Behind], now: datetime
) -> Sequence[Behind]:
    """Have the configured operator key wrap what is made from now on, if every node that runs knows it.

    Otherwise nothing is changed, and those that do not are returned. A node of `silent` that has given no sign
    since is not waited for: it was killed, and what starts in its place has to know the key.
    """
    await take_turn(connection)
    root = vault.root.id
    behind = await nodes.without(connection, root)
    if alive := [each for each in behind.values() if silent.get(each.id) != each]:
        return alive
    for gone in behind:
        await nodes.leave(connection, gone)
    await connection.execute(update(root_key).values(in_force=root_key.c.id == root))
    row = upsert(connection, root_key).values(id=root, proof=vault.prove(), first_used_at=now, in_force=True)
    await connection.execute(row.on_conflict_do_nothing(index_elements=["id"]))
    return []


async def rewrap(connection: AsyncConnection, vault: Vault, limit: int) -> int:
    """Wrap anew what an operator key wraps that is no longer in force. Returns how many keys it were.

    Once there are none, what shows that the old key belonged to this database goes, too.
    """
    root = vault.known(
        (await connection.execute(select(root_key.c.id).where(root_key.c.in_force))).scalar_one()
    )
    # Whoever makes a day's key holds on to the operator key that was in force for it: wait for its commit.
    past = select(root_key.c.id).where(root_key.c.id != root.id).with_for_update()
    old = list((await connection.execute(past)).scalars())
    count = 0
    for table in (lasting_key, day_key):
        query = select(table.c.id, table.c.wrapped).where(table.c.root_key.in_(old)).limit(limit - count)
        for row in (await connection.execute(query)).all():
            fresh = root.wrap(vault.unwrap(row.id, row.wrapped))
            statement = update(table).where(table.c.id == row.id)
            await connection.execute(statement.values(wrapped=fresh, root_key=root.id))
            count += 1
    if count == 0:
        await connection.execute(delete(root_key).where(root_key.c.id.in_(old)))
    return count
