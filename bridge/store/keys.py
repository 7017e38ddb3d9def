"""The vault's wrapped keys, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import RetentionClassId
from bridge.store.database import Database
from bridge.store.tables import data_key, day_key, root_key
from bridge.vault import Key, KeyDestroyedError, Vault, VaultError, new_key

INTAKE_CLASS = RetentionClassId("intake")  # until dispatch knows the class that the route gives


class KeyRing:
    """Opens and makes keys for the rows of one database."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._day_keys: dict[str, Key] = {}

    async def claim(self, database: Database, now: datetime) -> None:
        """Tie a new database to the operator's key. Raises VaultError if it was written under another one."""
        async with database.write() as connection:
            rows = (await connection.execute(select(root_key.c.id, root_key.c.proof))).all()
            for row in rows:
                if row.id == self.vault.root.id:
                    self.vault.verify(row.proof)
                    return
            if rows:
                message = (
                    f"the database was sealed under operator key {rows[0].id}, but the configured one is "
                    f"{self.vault.root.id}; configure the key that belongs to this database"
                )
                raise VaultError(message)
            await connection.execute(
                insert(root_key).values(id=self.vault.root.id, proof=self.vault.prove(), first_used_at=now)
            )

    async def new_data_key(
        self, connection: AsyncConnection, retention: RetentionClassId, now: datetime
    ) -> Key:
        """Make and keep a data key under the day's key of a retention class."""
        day = await self._day_key(connection, retention, now)
        key = new_key(uuid4().hex)
        await connection.execute(insert(data_key).values(id=key.id, day_key=day.id, wrapped=day.wrap(key)))
        return key

    async def data_key(self, connection: AsyncConnection, key_id: str) -> Key:
        """Open a data key. Raises KeyDestroyedError if retention destroyed it or its day."""
        found = await self._find(connection, key_id)
        return found.day.unwrap(key_id, found.wrapped)

    async def reclassify(
        self, connection: AsyncConnection, key_id: str, retention: RetentionClassId, now: datetime
    ) -> None:
        """Move a data key under another class's day key, since the route decided how long its content lives."""
        key = await self.data_key(connection, key_id)
        day = await self._day_key(connection, retention, now)
        await connection.execute(
            update(data_key).where(data_key.c.id == key_id).values(day_key=day.id, wrapped=day.wrap(key))
        )

    async def _find(self, connection: AsyncConnection, key_id: str) -> _Found:
        query = (
            select(data_key.c.wrapped, day_key.c.id, day_key.c.wrapped.label("day_wrapped"))
            .join(day_key, day_key.c.id == data_key.c.day_key)
            .where(data_key.c.id == key_id)
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            message = f"the key {key_id} was destroyed with its content"
            raise KeyDestroyedError(message)
        return _Found(self._open_day(row.id, row.day_wrapped), row.wrapped)

    def _open_day(self, key_id: str, wrapped: bytes) -> Key:
        if key_id not in self._day_keys:
            self._day_keys[key_id] = self.vault.root.unwrap(key_id, wrapped)
        return self._day_keys[key_id]

    async def _day_key(self, connection: AsyncConnection, retention: RetentionClassId, now: datetime) -> Key:
        day = now.date().isoformat()
        query = select(day_key.c.id, day_key.c.wrapped).where(
            day_key.c.retention == retention, day_key.c.day == day
        )
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return self._open_day(row.id, row.wrapped)
        key = new_key(f"{retention}/{day}/{uuid4().hex[:8]}")
        wrapped = self.vault.root.wrap(key)
        await connection.execute(
            insert(day_key).values(
                id=key.id, retention=retention, day=day, root_key=self.vault.root.id, wrapped=wrapped
            )
        )
        # Not cached: the transaction may yet be rolled back, and then the row that a later one makes is the key.
        return key


@dataclass(frozen=True, slots=True)
class _Found:
    day: Key
    wrapped: bytes
