"""The inbox: an event is durable here before its source is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.ledger import Action, Record
from bridge.model import in_hand
from bridge.model.attachment import MOST, Attachment
from bridge.model.doors import Receipt
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.store import attachments, ledger
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.keys import INTAKE_CLASS, WRAPPED, KeyRing
from bridge.store.tables import data_key, day_key, intake
from bridge.vault import Key, KeyDestroyedError, VaultError

CONFLICT_RETRIES = 2
ASKED_AT_ONCE = 500
CALLER = "caller"  # the vault's kind of fingerprint by which a caller's earlier events are found


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


@dataclass(frozen=True, slots=True)
class LockedRow:
    """An accepted event that does not open: it was changed, or its key is not the one it was sealed under."""

    id: IntakeId
    channel: ChannelId


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request that waits for the commit it is part of."""

    channel: ChannelId
    mac: bytes
    content: Phi[bytes]
    kind: str | None = None
    reason: str | None = None
    caller: bytes | None = None
    attachments: tuple[Attachment, ...] = ()


class IntakeStore:
    """The inbox's rows; implements `bridge.model.doors.Inbox`. Requests are committed in groups."""

    def __init__(
        self, database: Database, keys: KeyRing, now: Callable[[], datetime], wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._wake = wake
        self._commits = GroupCommit(self._commit_surely)

    async def accept(self, event: IntakeEvent) -> Receipt:
        """Commit an event, once for each (channel, key). Raises StoreUnavailableError if it was not committed."""
        in_hand.take(*event.texts())
        mac = self._keys.lookup(f"intake {event.channel}", event.key)
        caller = self._keys.lookup(CALLER, event.caller) if event.caller else None
        wanted = _Wanted(
            event.channel,
            mac,
            event.seal_form(),
            kind=event.kind.value,
            caller=caller,
            attachments=event.attachments[:MOST],
        )
        return await self._commits.add(wanted)

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        """Commit a request that could not be parsed; the same bytes again are the same request."""
        in_hand.take(raw.reveal().decode("utf-8", "replace"))
        mac = self._keys.lookup(f"unreadable {channel}", Phi(raw.reveal().hex()))
        return await self._commits.add(_Wanted(channel, mac, raw, reason=reason))

    async def kind_of(self, channel: ChannelId, key: Phi[str]) -> EventKind | None:
        """What the event is that is kept under a key; None if there is none."""
        query = select(intake.c.kind).where(
            intake.c.channel == channel, intake.c.key_mac == self._keys.lookup(f"intake {channel}", key)
        )
        async with self._database.read() as connection:
            kind = (await connection.execute(query)).scalar_one_or_none()
        return EventKind(kind) if kind else None

    async def missing(self, events: Sequence[IntakeEvent]) -> list[IntakeEvent]:
        """Those of the events that were never taken; an event whose content was destroyed since is not missing."""
        macs = {self._keys.lookup(f"intake {event.channel}", event.key): event for event in events}
        known: set[bytes] = set()
        async with self._database.read() as connection:
            for some in _batched(list(macs), ASKED_AT_ONCE):
                query = select(intake.c.key_mac).where(intake.c.key_mac.in_(some))
                known.update((await connection.execute(query)).scalars())
        return [event for mac, event in macs.items() if mac not in known]

    async def _commit_surely(self, together: Sequence[_Wanted]) -> list[Receipt]:
        for _ in range(CONFLICT_RETRIES):
            try:
                receipts = await self._commit(together)
            except IntegrityError:
                # On PostgreSQL another node took the same event, or made the same day's key, between our look
                # and our insert: the next look finds its row.
                continue
            self._wake()
            return receipts
        return await self._commit(together)

    async def _commit(self, together: Sequence[_Wanted]) -> list[Receipt]:
        async with self._database.write() as connection:
            query = select(intake.c.channel, intake.c.key_mac, intake.c.id, intake.c.kind)
            query = query.where(intake.c.key_mac.in_([wanted.mac for wanted in together]))
            known = {
                (row.channel, row.key_mac): (row.id, row.kind)
                for row in (await connection.execute(query)).all()
            }
            fresh: dict[tuple[str, bytes], _Wanted] = {}
            for wanted in together:
                if (wanted.channel, wanted.mac) not in known:
                    fresh.setdefault((wanted.channel, wanted.mac), wanted)
            now = self._now()
            rows: list[dict[str, Any]] = []
            if fresh:
                keys = await self._keys.new_data_keys(connection, INTAKE_CLASS, now, len(fresh))
                rows = [_row(wanted, key, now) for wanted, key in zip(fresh.values(), keys, strict=True)]
                await connection.execute(insert(intake), rows)
                for row, wanted, key in zip(rows, fresh.values(), keys, strict=True):
                    await attachments.put(
                        connection, IntakeId(row["id"]), key, wanted.attachments, now, channel=wanted.channel
                    )
                await ledger.append(connection, [_received(row) for row in rows], now)
        made = {(row["channel"], row["key_mac"]): (row["id"], row["kind"]) for row in rows}
        receipts = []
        for wanted in together:
            name = (wanted.channel, wanted.mac)
            first = fresh.get(name) is wanted
            intake_id, kind = made.get(name) or known[name]
            receipts.append(
                Receipt(IntakeId(intake_id), duplicate=not first, kind=EventKind(kind) if kind else None)
            )
        return receipts

    async def waiting(self, connection: AsyncConnection, limit: int) -> list[IntakeRow | LockedRow]:
        """The oldest events that have no route yet."""
        query = _with_keys().where(intake.c.state == "todo").order_by(intake.c.seq).limit(limit)
        return [self._try_open(row) for row in (await connection.execute(query)).all()]

    async def earlier(
        self, connection: AsyncConnection, caller: Phi[str], since: datetime, before: datetime
    ) -> list[datetime]:
        """When a caller's earlier events came."""
        query = select(intake.c.received_at).where(
            intake.c.caller_mac == self._keys.lookup(CALLER, caller),
            intake.c.received_at >= since,
            intake.c.received_at < before,
        )
        return list((await connection.execute(query)).scalars())

    async def event_of(self, connection: AsyncConnection, intake_id: IntakeId) -> tuple[IntakeEvent, Key]:
        """The event of a page and its key. Raises KeyDestroyedError when retention has destroyed it."""
        row = (await connection.execute(_with_keys().where(intake.c.id == intake_id))).one_or_none()
        if row is None:
            message = f"the content of {intake_id} was destroyed"
            raise KeyDestroyedError(message)
        opened = self._open(row)
        assert opened.event is not None  # noqa: S101 - a page is only ever made of a readable event
        return opened.event, opened.key

    async def mark_routed(self, connection: AsyncConnection, intakes: Sequence[IntakeId]) -> None:
        """The events have become their pages, in this same transaction."""
        await connection.execute(update(intake).where(intake.c.id.in_(intakes)).values(state="done"))

    def _try_open(self, row: Row[Any]) -> IntakeRow | LockedRow:
        try:
            return self._open(row)
        except (VaultError, ValueError, KeyError):
            return LockedRow(IntakeId(row.id), ChannelId(row.channel))

    def _open(self, row: Row[Any]) -> IntakeRow:
        key = self._keys.key_of_row(row)
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


def _batched(values: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """The values in groups; a statement takes only so many."""
    return (values[start : start + size] for start in range(0, len(values), size))


def _with_keys() -> Select[Any]:
    return (
        select(intake, *WRAPPED)
        .join(data_key, data_key.c.id == intake.c.data_key)
        .join(day_key, day_key.c.id == data_key.c.day_key)
    )


def _received(row: dict[str, Any]) -> Record:
    objects = {"intake": row["id"], "kind": row["kind"] or "unreadable"}
    outcome = "verified" if row["unreadable"] is None else "unreadable"
    actor = f"channel:{row['channel']}"
    return Record(Action.RECEIVED, actor, objects=objects, outcome=outcome, patient=row["caller_mac"])


def _row(wanted: _Wanted, key: Key, now: datetime) -> dict[str, Any]:
    intake_id = uuid4().hex
    return {
        "id": intake_id,
        "channel": wanted.channel,
        "key_mac": wanted.mac,
        "kind": wanted.kind,
        "unreadable": wanted.reason,
        "caller_mac": wanted.caller,
        "data_key": key.id,
        "sealed": key.seal(wanted.content, f"intake {intake_id}"),
        "received_at": now,
        "state": "todo",
    }
