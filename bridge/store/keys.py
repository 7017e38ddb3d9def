"""The vault's wrapped keys, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, and_, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import RetentionClassId
from bridge.model.phi import Phi
from bridge.store import nodes
from bridge.store.database import Database, upsert
from bridge.store.nodes import Node
from bridge.store.rotation import take_turn
from bridge.store.tables import data_key, day_key, hold, lasting_key, root_key
from bridge.vault import Key, KeyDestroyedError, Vault, new_key

HOLD_CLASS = RetentionClassId("hold")  # its "days" are the ids of holds
INTAKE_CLASS = RetentionClassId("intake")  # until dispatch knows the class that the route gives
# Keys that outlive every day: for finding values again, for the crypto store's pickles, for signing the ledger.
LOOKUP, CRYPTO_STORE, LEDGER = LASTING = ("lookup", "crypto store", "ledger")


# What a query selects of `data_key` and `day_key`, for `KeyRing.key_of_row`.
WRAPPED = (data_key.c.wrapped, day_key.c.id.label("day_id"), day_key.c.wrapped.label("day_wrapped"))


class KeyRing:
    """Opens and makes keys for the rows of one database."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._day_keys: dict[str, Key] = {}
        self._lasting: dict[str, Key] = {}

    async def claim(self, database: Database, now: datetime) -> None:
        """Tie a new database to the operator's key. Raises VaultError if it was written under another one."""
        try:
            await self._claim(database, now)
        except IntegrityError:  # another node was claiming it, too
            await self._claim(database, now)

    async def _claim(self, database: Database, now: datetime) -> None:
        async with database.write() as connection:
            await take_turn(connection)
            wraps = await _verified(connection, self.vault)
            if wraps is None:
                wraps = self.vault.root
                row = insert(root_key).values(
                    id=wraps.id, proof=self.vault.prove(), first_used_at=now, in_force=True
                )
                await connection.execute(row)
            query = select(lasting_key.c.id, lasting_key.c.wrapped)
            known = {row.id: row.wrapped for row in (await connection.execute(query)).all()}
            for name in LASTING:
                if name in known:
                    self._lasting[name] = self.vault.unwrap(name, known[name])
                    continue
                key = self._lasting[name] = new_key(name)
                made = insert(lasting_key).values(id=name, root_key=wraps.id, wrapped=wraps.wrap(key))
                await connection.execute(made)

    async def enlist(self, database: Database, here: Node, vault: Vault, now: datetime) -> None:
        """Know these operator keys from now on, and say so for whoever changes the key in force.

        Raises VaultError, and knows what it knew before, if a key is missing with which this database is sealed.
        """
        async with database.write() as connection:
            await take_turn(connection)
            await _verified(connection, vault)
            await nodes.enlist(connection, here, vault.ids, now)
        self.vault = vault

    def lookup(self, kind: str, value: Phi[str]) -> bytes:
        """A keyed fingerprint by which a value can be found again but not read."""
        return self._lasting[LOOKUP].fingerprint(kind, value)

    def pickle_key(self) -> str:
        """The passphrase of the crypto store's pickles."""
        return self._lasting[CRYPTO_STORE].passphrase()

    def signer(self) -> Ed25519PrivateKey:
        """What signs the ledger's checkpoints and the certificates of destruction."""
        return self._lasting[LEDGER].signer()

    async def new_data_key(
        self, connection: AsyncConnection, retention: RetentionClassId, now: datetime
    ) -> Key:
        """Make and keep a data key under the day's key of a retention class."""
        return (await self.new_data_keys(connection, retention, now, 1))[0]

    async def new_data_keys(
        self, connection: AsyncConnection, retention: RetentionClassId, now: datetime, count: int
    ) -> list[Key]:
        """Make and keep several data keys at once."""
        day = await self._day_key(connection, retention, now)
        made = [new_key(uuid4().hex) for _ in range(count)]
        rows = [{"id": key.id, "day_key": day.id, "wrapped": day.wrap(key)} for key in made]
        await connection.execute(insert(data_key), rows)
        return made

    async def data_key(self, connection: AsyncConnection, key_id: str) -> Key:
        """Open a data key. Raises KeyDestroyedError if retention destroyed it or its day."""
        query = (
            select(data_key.c.wrapped, day_key.c.id, day_key.c.wrapped.label("day_wrapped"))
            .join(day_key, day_key.c.id == data_key.c.day_key)
            .where(data_key.c.id == key_id)
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            message = f"the key {key_id} was destroyed with its content"
            raise KeyDestroyedError(message)
        return self.open_data_key(key_id, row.wrapped, row.id, row.day_wrapped)

    def key_of_row(self, row: Row[*tuple[Any, ...]]) -> Key:
        """Open the data key of a row that names it (`data_key`), selected with `WRAPPED` from both tables of keys."""
        return self.open_data_key(row.data_key, row.wrapped, row.day_id, row.day_wrapped)

    def open_data_key(self, key_id: str, wrapped: bytes, day_id: str, day_wrapped: bytes) -> Key:
        """Open a data key from the columns of its row and its day's."""
        return self._open_day(day_id, day_wrapped).unwrap(key_id, wrapped)

    async def reclassify(
        self,
        connection: AsyncConnection,
        keys: Sequence[tuple[Key, RetentionClassId]],
        now: datetime,
    ) -> None:
        """Move data keys under other classes' day keys, since routes decided how long their content lives."""
        classes = {retention for _, retention in keys}
        days = {retention: await self._day_key(connection, retention, now) for retention in sorted(classes)}
        await self._move(connection, [(key, days[retention]) for key, retention in keys])

    async def destroy(self, connection: AsyncConnection, key_ids: Sequence[str], today: str) -> None:
        """Destroy data keys, and with a day's last one the day's key.

        A day that is not over keeps its key, since more may yet be sealed under it.
        """
        if not key_ids:
            return
        query = select(data_key.c.day_key).where(data_key.c.id.in_(key_ids)).distinct()
        days = list((await connection.execute(query)).scalars())
        await connection.execute(delete(data_key).where(data_key.c.id.in_(key_ids)))
        used = exists().where(data_key.c.day_key == day_key.c.id)
        # A hold's key opens its reason as well, as long as the hold is in force.
        held = select(hold.c.id).where(hold.c.lifted_at.is_(None))
        over = day_key.c.day.not_in([today]) & day_key.c.day.not_in(held)
        over &= day_key.c.id.in_(days) & ~used
        await connection.execute(delete(day_key).where(over))
        for day in days:
            self._day_keys.pop(day, None)

    async def forget_days(self, connection: AsyncConnection, now: datetime) -> int:
        """Destroy the keys of days before yesterday, and of lifted holds, under which nothing is left.

        Such as a day whose last event went on the same day, or was moved: to its class, or under a hold. A backup
        still has what they wrapped. Returns how many it were.
        """
        yesterday = (now - timedelta(days=1)).date().isoformat()
        in_force = select(hold.c.id).where(hold.c.lifted_at.is_(None))
        of_hold = day_key.c.retention == HOLD_CLASS
        over = or_(and_(of_hold, day_key.c.day.not_in(in_force)), and_(~of_hold, day_key.c.day < yesterday))
        unused = ~exists().where(data_key.c.day_key == day_key.c.id)
        statement = delete(day_key).where(over, unused).returning(day_key.c.id)
        gone = list((await connection.execute(statement)).scalars())
        for day in gone:
            self._day_keys.pop(day, None)
        return len(gone)

    async def hold(self, connection: AsyncConnection, key_ids: Sequence[str], hold_id: str) -> None:
        """Move data keys under a hold's own key, so that the rest of their days can go."""
        query = (
            select(
                data_key.c.id, data_key.c.wrapped, data_key.c.day_key, day_key.c.wrapped.label("day_wrapped")
            )
            .join(day_key, day_key.c.id == data_key.c.day_key)
            .where(data_key.c.id.in_(key_ids), day_key.c.retention != HOLD_CLASS)
        )
        rows = (await connection.execute(query)).all()
        keys = [self.open_data_key(row.id, row.wrapped, row.day_key, row.day_wrapped) for row in rows]
        own = await self.key_of_hold(connection, hold_id)
        await self._move(connection, [(key, own) for key in keys])

    async def key_of_hold(self, connection: AsyncConnection, hold_id: str) -> Key:
        """The key of a hold, made at its first use."""
        return await self._key_of(connection, HOLD_CLASS, hold_id)

    async def _move(self, connection: AsyncConnection, moves: Sequence[tuple[Key, Key]]) -> None:
        rows = [{"key": key.id, "day": day.id, "fresh": day.wrap(key)} for key, day in moves]
        if rows:
            statement = update(data_key).where(data_key.c.id == bindparam("key"))
            statement = statement.values(day_key=bindparam("day"), wrapped=bindparam("fresh"))
            await connection.execute(statement, rows)

    def _open_day(self, key_id: str, wrapped: bytes) -> Key:
        if key_id not in self._day_keys:
            self._day_keys[key_id] = self.vault.unwrap(key_id, wrapped)
        return self._day_keys[key_id]

    async def _day_key(self, connection: AsyncConnection, retention: RetentionClassId, now: datetime) -> Key:
        return await self._key_of(connection, retention, now.date().isoformat())

    async def _key_of(self, connection: AsyncConnection, retention: RetentionClassId, day: str) -> Key:
        query = select(day_key.c.id, day_key.c.wrapped).where(
            day_key.c.retention == retention, day_key.c.day == day
        )
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return self._open_day(row.id, row.wrapped)
        key = new_key(f"{retention}/{day}/{uuid4().hex[:8]}")
        root = await self._root_in_force(connection)
        made = upsert(connection, day_key).values(
            id=key.id, retention=retention, day=day, root_key=root.id, wrapped=root.wrap(key)
        )
        made = made.on_conflict_do_nothing(index_elements=["retention", "day"])
        if (await connection.execute(made)).rowcount == 0:
            # Another transaction has made it since, and this one waited for its commit.
            return await self._key_of(connection, retention, day)
        # Not cached: the transaction may yet be rolled back, and then the row that a later one makes is the key.
        return key

    async def _root_in_force(self, connection: AsyncConnection) -> Key:
        # Held until the commit: while the operator's key is changed, see rotation.rewrap.
        held = select(root_key.c.id).where(root_key.c.in_force).with_for_update(read=True, key_share=True)
        found = (await connection.execute(held)).scalar_one_or_none()
        if found is None:  # on PostgreSQL, another was put in force while this statement began
            found = (await connection.execute(held)).scalar_one()
        return self.vault.known(found)


async def _verified(connection: AsyncConnection, vault: Vault) -> Key | None:
    """The operator key in force; None for an empty database. Raises VaultError if one that is needed is not here."""
    query = select(root_key.c.id, root_key.c.proof, root_key.c.in_force)
    rows = (await connection.execute(query)).all()
    for row in rows:
        vault.verify(row.id, row.proof)
    return next((vault.known(row.id) for row in rows if row.in_force), None)
