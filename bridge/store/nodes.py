"""The bridges that run on a database, as rows: that each is alive, and which operator keys it knows."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.store.database import upsert
from bridge.store.tables import heartbeat, node

FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Node:
    """A bridge's process."""

    id: str
    name: str


def this_node() -> Node:
    """The process that asks, told apart from every other, and from itself after a restart."""
    return Node(uuid4().hex, f"process {os.getpid()} on {socket.gethostname()}")


async def enlist(connection: AsyncConnection, here: Node, roots: Sequence[str], now: datetime) -> None:
    """Say which operator keys a node knows. Nodes that were killed long ago are forgotten."""
    await connection.execute(delete(node).where(node.c.at < now - FORGOTTEN_AFTER, node.c.id != here.id))
    said = {"root_keys": list(roots), "at": now}
    row = upsert(connection, node).values(id=here.id, name=here.name, **said)
    await connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=said))


async def beat(connection: AsyncConnection, here: Node, roots: Sequence[str], now: datetime) -> None:
    """Write something small: the node is alive, and a database that can be read may still be full, or read-only."""
    last = upsert(connection, heartbeat).values(id=1, at=now)
    await connection.execute(last.on_conflict_do_update(index_elements=["id"], set_={"at": now}))
    # What it knows is said by `enlist`, which looks at what is in force as well.
    row = upsert(connection, node).values(id=here.id, name=here.name, root_keys=list(roots), at=now)
    await connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"at": now}))


async def leave(connection: AsyncConnection, node_id: str) -> None:
    """A node has ended."""
    await connection.execute(delete(node).where(node.c.id == node_id))


@dataclass(frozen=True, slots=True)
class Behind:
    """A node that does not know an operator key, and when it was last alive by its own clock."""

    id: str
    name: str
    at: datetime


async def without(connection: AsyncConnection, root: str) -> Mapping[str, Behind]:
    """The nodes that do not know an operator key, by their ids."""
    rows = (await connection.execute(select(node).order_by(node.c.name))).all()
    return {row.id: Behind(row.id, row.name, row.at) for row in rows if root not in row.root_keys}
