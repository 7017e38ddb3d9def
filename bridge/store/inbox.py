"""The inbox: an event is durable here before its source is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.doors import Receipt
from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.store.database import Database
from bridge.store.keys import INTAKE_CLASS, KeyRing
from bridge.store.tables import intake
from bridge.vault import Key

CONFLICT_RETRIES = 3


@dataclass(frozen=True, slots=True)
class IntakeRow:
    """An accepted event that waits for its route. Exactly one of `event` and `raw` is there."""

    id: IntakeId
    channel: ChannelId
    received_at: datetime
    key: Key
    event: IntakeEvent | None
    raw: Phi[bytes] | None
    reason: str | None


class IntakeStore:
    """The inbox's rows; implements `bridge.model.doors.Inbox`."""

    def __init__(
        self, database: Database, keys: KeyRing, now: Callable[[], datetime], wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._wake = wake

    async def accept(self, event: IntakeEvent) -> Receipt:
        """Commit an event, once for each (channel, key). Raises StoreUnavailableError if it was not committed."""
        mac = self._keys.vault.lookup(f"intake {event.channel}", event.key)
        return await self._keep(event.channel, mac, event.seal_form(), kind=event.kind.value, reason=None)

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        """Commit a request that could not be parsed; the same bytes again are the same request."""
        mac = self._keys.vault.lookup(f"unreadable {channel}", Phi(raw.reveal().hex()))
        return await self._keep(channel, mac, raw, kind=None, reason=reason)

    async def _keep(
        self, channel: ChannelId, mac: bytes, content: Phi[bytes], *, kind: str | None, reason: str | None
    ) -> Receipt:
        for attempt in range(CONFLICT_RETRIES):
            try:
                receipt = await self._keep_once(channel, mac, content, kind, reason)
            except IntegrityError:
                # On PostgreSQL another node took the same event, or made the same day's key, between our look
                # and our insert: the next look finds its row.
                if attempt == CONFLICT_RETRIES - 1:
                    raise
            else:
                break
        if not receipt.duplicate:
            self._wake()
        return receipt

    async def _keep_once(
        self, channel: ChannelId, mac: bytes, content: Phi[bytes], kind: str | None, reason: str | None
    ) -> Receipt:
        async with self._database.write() as connection:
            known = await _find(connection, channel, mac)
            if known is not None:
                return Receipt(known, duplicate=True)
            intake_id = IntakeId(uuid4().hex)
            now = self._now()
            key = await self._keys.new_data_key(connection, INTAKE_CLASS, now)
            await connection.execute(
                insert(intake).values(
                    id=intake_id,
                    channel=channel,
                    key_mac=mac,
                    kind=kind,
                    unreadable=reason,
                    data_key=key.id,
                    sealed=key.seal(content, f"intake {intake_id}"),
                    received_at=now,
                    state="todo",
                )
            )
        return Receipt(intake_id, duplicate=False)

    async def waiting(self, connection: AsyncConnection, limit: int) -> list[IntakeRow]:
        """The oldest events that have no route yet."""
        query = select(intake).where(intake.c.state == "todo").order_by(intake.c.seq).limit(limit)
        return [await self._open(connection, row) for row in (await connection.execute(query)).all()]

    async def event_of(self, connection: AsyncConnection, intake_id: IntakeId) -> tuple[IntakeEvent, Key]:
        """The event of a page and its key. Raises KeyDestroyedError when retention has destroyed it."""
        row = (await connection.execute(select(intake).where(intake.c.id == intake_id))).one()
        opened = await self._open(connection, row)
        assert opened.event is not None  # noqa: S101 - a page is only ever made of a readable event
        return opened.event, opened.key

    async def mark_routed(self, connection: AsyncConnection, intake_id: IntakeId) -> None:
        """The event has become its pages, in this same transaction."""
        await connection.execute(update(intake).where(intake.c.id == intake_id).values(state="done"))

    async def _open(self, connection: AsyncConnection, row: Row[Any]) -> IntakeRow:
        key = await self._keys.data_key(connection, row.data_key)
        content = key.open(row.sealed, f"intake {row.id}")
        readable = row.unreadable is None
        return IntakeRow(
            id=IntakeId(row.id),
            channel=ChannelId(row.channel),
            received_at=row.received_at,
            key=key,
            event=IntakeEvent.from_seal_form(content) if readable else None,
            raw=None if readable else content,
            reason=row.unreadable,
        )


async def _find(connection: AsyncConnection, channel: ChannelId, mac: bytes) -> IntakeId | None:
    query = select(intake.c.id).where(intake.c.channel == channel, intake.c.key_mac == mac)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else IntakeId(found)
