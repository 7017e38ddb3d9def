"""The ledger's rows. Each record is written by the transaction that it tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import ColumnElement, Row, delete, false, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.ledger import (
    BRIDGE,
    Action,
    Checkpoint,
    Head,
    LedgerChangedError,
    Link,
    Record,
    chain,
    follow,
    is_signed,
    sign,
)
from bridge.model.doors import Destination
from bridge.model.ids import PageId
from bridge.store.database import upsert
from bridge.store.tables import ledger, ledger_anchor, ledger_checkpoint, room

BATCH = 2_000
PRUNED_AT_ONCE = 5_000  # records; some tens of milliseconds of the database's one writer
OF_EVENTS = (Action.RECEIVED.value, Action.REPLIED.value)  # recorded before there is a page
# Run for every record, so it is made once: to build a statement costs more than to run it.
_HEAD = select(ledger.c.seq, ledger.c.hash).order_by(ledger.c.seq.desc()).limit(1)
_LOCK = text("SELECT pg_advisory_xact_lock(78105)")  # the ledger's own number


async def append(connection: AsyncConnection, records: Sequence[Record], at: datetime) -> None:
    """Add records to the chain, by the transaction that does what they tell of.

    Let it be the transaction's last word: on PostgreSQL whoever else appends waits from here until the commit.
    """
    if not records:
        return
    await _take_turn(connection)
    links = chain(await head(connection), records, at)
    await connection.execute(insert(ledger), [_columns(link) for link in links])


async def head(connection: AsyncConnection) -> Head:
    """The last record's place."""
    row = (await connection.execute(_HEAD)).one_or_none()
    return Head(row.seq, row.hash) if row is not None else Head()


async def beginning(connection: AsyncConnection) -> Head:
    """The place that the first record still there stands on: a signed one, once older records were pruned."""
    first = (await connection.execute(select(func.min(ledger.c.seq)))).scalar_one()
    if first is None:
        return Head()
    query = select(ledger_checkpoint.c.hash).where(ledger_checkpoint.c.seq == first - 1)
    signed = (await connection.execute(query)).scalar_one_or_none()
    return Head() if signed is None else Head(first - 1, signed)


@dataclass(frozen=True, slots=True)
class Pruning:
    """Records whose time is up: how many, and the signature that stands in for them."""

    records: int
    until: Checkpoint


async def prunable(
    connection: AsyncConnection, before: datetime, *, at_most: int | None = None
) -> Pruning | None:
    """What is vouched for by a signature from before a moment, so that every record in it is older still.

    `at_most` bounds the records, unless two signatures stand further apart.
    """
    begin = await beginning(connection)
    signed = select(ledger_checkpoint).where(ledger_checkpoint.c.seq > begin.seq)
    rows = (await connection.execute(signed.order_by(ledger_checkpoint.c.seq).limit(1))).all()
    if at_most is None:
        rows = [*rows, *(await connection.execute(signed.where(ledger_checkpoint.c.at <= before))).all()]
    else:
        near = signed.where(ledger_checkpoint.c.seq <= begin.seq + at_most)
        rows = [*rows, *(await connection.execute(near)).all()]
    due = [row for row in rows if row.at <= before]
    if not due:
        return None
    until = _checkpoint(max(due, key=lambda row: row.seq))
    return Pruning(until.head.seq - begin.seq, until)


async def prune(
    connection: AsyncConnection, before: datetime, at: datetime, *, actor: str = BRIDGE
) -> Pruning | None:
    """Delete the oldest records up to a signature from before a moment; None when there are none.

    That signature stays, and what follows is verified from it. A record tells of the pruning.
    """
    await _take_turn(connection)
    due = await prunable(connection, before, at_most=PRUNED_AT_ONCE)
    if due is None:
        return None
    last = due.until.head
    await connection.execute(delete(ledger_anchor).where(ledger_anchor.c.seq < last.seq))
    await connection.execute(delete(ledger_checkpoint).where(ledger_checkpoint.c.seq < last.seq))
    objects: dict[str, str | int] = {"until": last.seq, "hash": last.hash, "records": due.records}
    # First the record: it may stand on the last of those that go.
    await append(connection, [Record(Action.PRUNED, actor, objects=objects)], at)
    await connection.execute(delete(ledger).where(ledger.c.seq <= last.seq))
    return due


async def has_unsigned(connection: AsyncConnection, *, beside: Destination | None = None) -> bool:
    """Whether anything has come since the last signature.

    That a signature was posted is on record, too: posts to `beside`, and the sharing of their keys, count for nothing.
    """
    last = await last_checkpoint(connection)
    query = select(ledger.c.seq).where(ledger.c.seq > (last.head.seq if last else 0))
    if beside is not None:
        here = select(room.c.room_id).where(room.c.destination == str(beside)).scalar_subquery()
        posts = ledger.c.action.in_([Action.SENT.value, Action.KEY_SHARED.value]) & ledger.c.page.is_(None)
        query = query.where(~func.coalesce(posts & (ledger.c.objects["room"].as_string() == here), false()))
    return (await connection.execute(query.limit(1))).first() is not None


async def intact(connection: AsyncConnection, key: Ed25519PublicKey, known: Head | None = None) -> Head:
    """The end of the chain, if from the last signature on it is as it was written. Raises LedgerChangedError.

    `known` is what the caller has signed itself: it must still be there, unless its time was up. Who may write to
    the database could otherwise write the chain anew, take the signatures away, and have it signed again.
    """
    last, begin = await last_checkpoint(connection), await beginning(connection)
    if last is not None and not is_signed(last, key):
        raise LedgerChangedError(f"the signature of record {last.head.seq} is not ours")
    if known is not None and (last is None or last.head.seq < known.seq):
        raise LedgerChangedError(f"the signature of record {known.seq} is missing")
    for place in filter(None, (known, last.head if last else None)):
        query = select(ledger.c.hash).where(ledger.c.seq == place.seq)
        there = (await connection.execute(query)).scalar_one_or_none()
        pruned = place.seq < begin.seq or place == begin
        if there != place.hash and not pruned:
            raise LedgerChangedError(f"record {place.seq} is not the one that was signed")
    end = last.head if last else Head()
    async for link in links(connection, until=(await head(connection)).seq, after=end):
        end = follow(end, link)
    return end


async def checkpoint(
    connection: AsyncConnection, key: Ed25519PrivateKey, at: datetime, place: Head
) -> Checkpoint | None:
    """Sign a place of the chain that `intact` has found. None if it is signed, or is not that place any more."""
    await _take_turn(connection)
    last = await last_checkpoint(connection)
    query = select(ledger.c.seq).where(ledger.c.seq == place.seq, ledger.c.hash == place.hash)
    if (last and last.head.seq >= place.seq) or (await connection.execute(query)).first() is None:
        return None
    signed = sign(place, at, key)
    await connection.execute(
        insert(ledger_checkpoint).values(seq=place.seq, hash=place.hash, at=at, signature=signed.signature)
    )
    return signed


async def last_checkpoint(connection: AsyncConnection) -> Checkpoint | None:
    """The latest signature."""
    query = select(ledger_checkpoint).order_by(ledger_checkpoint.c.seq.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _checkpoint(row)


async def unanchored(connection: AsyncConnection, kind: str) -> Checkpoint | None:
    """The latest signature, unless this kind of anchor has it. It vouches for all before it."""
    newest = await last_checkpoint(connection)
    if newest is None:
        return None
    query = select(ledger_anchor.c.seq).where(
        ledger_anchor.c.kind == kind, ledger_anchor.c.seq >= newest.head.seq
    )
    return None if (await connection.execute(query)).first() is not None else newest


async def mark_anchored(
    connection: AsyncConnection, kind: str, checkpoint: Checkpoint, at: datetime, receipt: bytes | None
) -> None:
    """An anchor has a signature; `receipt` is what it gave for it."""
    row = upsert(connection, ledger_anchor).values(kind=kind, seq=checkpoint.head.seq, at=at, receipt=receipt)
    await connection.execute(row.on_conflict_do_nothing(index_elements=["kind", "seq"]))


async def receipts(connection: AsyncConnection) -> dict[int, bytes]:
    """What anchors gave, by the record whose signature they have."""
    query = select(ledger_anchor.c.seq, ledger_anchor.c.receipt).where(ledger_anchor.c.receipt.is_not(None))
    return {row.seq: row.receipt for row in (await connection.execute(query)).all()}


async def checkpoints(connection: AsyncConnection) -> list[Checkpoint]:
    """Every signature, the oldest first."""
    query = select(ledger_checkpoint).order_by(ledger_checkpoint.c.seq)
    return [_checkpoint(row) for row in (await connection.execute(query)).all()]


async def links(connection: AsyncConnection, *, until: int, after: Head | None = None) -> AsyncIterator[Link]:
    """The chain up to a record, in order, from where it begins, or after a place."""
    begin = after or await beginning(connection)
    seq, previous = begin.seq, begin.hash
    while seq < until:
        query = select(ledger).where(ledger.c.seq > seq, ledger.c.seq <= until)
        rows = (await connection.execute(query.order_by(ledger.c.seq).limit(BATCH))).all()
        if not rows:
            return
        for row in rows:
            yield _link(row, previous)
            seq, previous = row.seq, row.hash


async def of_pages(connection: AsyncConnection, pages: Collection[PageId]) -> list[Link]:
    """What happened to pages: to the events they were made of, and to the keys their messages were sent under."""
    own = await _found(connection, ledger.c.page.in_(pages))
    sessions = _named("session", own)
    keys = (ledger.c.action == Action.KEY_SHARED.value) & _names("session", sessions)
    events = ledger.c.action.in_(OF_EVENTS) & _names("intake", _named("intake", own))
    more = [*await _found(connection, keys), *await _found(connection, events)] if own else []
    return _in_order([*own, *more])


async def of_patient(connection: AsyncConnection, token: bytes) -> list[Link]:
    """What happened to everything that came from a patient's number."""
    own = await _found(connection, ledger.c.patient == token)
    pages = {link.record.page for link in own if link.record.page is not None}
    return _in_order([*own, *await of_pages(connection, pages)])


def _named(kind: str, links: Iterable[Link]) -> set[str]:
    return {str(link.record.objects[kind]) for link in links if kind in link.record.objects}


def _names(kind: str, values: Collection[str]) -> ColumnElement[bool]:
    named: ColumnElement[str] = ledger.c.objects[kind].as_string()
    return named.in_(values)


def _in_order(links: Iterable[Link]) -> list[Link]:
    """Each once."""
    return [link for _, link in sorted({link.seq: link for link in links}.items())]


async def _found(connection: AsyncConnection, wanted: ColumnElement[bool]) -> list[Link]:
    rows = (await connection.execute(select(ledger).where(wanted).order_by(ledger.c.seq))).all()
    return [_link(row, "") for row in rows]


async def _take_turn(connection: AsyncConnection) -> None:
    # SQLite has one writer at a time. On PostgreSQL a lock of its own, taken before the head is read: a
    # statement sees what was committed when it began.
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK)


def _columns(link: Link) -> dict[str, Any]:
    record = link.record
    return {
        "seq": link.seq,
        "at": link.at,
        "actor": record.actor,
        "action": record.action.value,
        "page": record.page,
        "patient": record.patient,
        "objects": dict(record.objects),
        "outcome": record.outcome,
        "hash": link.hash,
    }


def _link(row: Row[Any], previous: str) -> Link:
    record = Record(
        action=Action(row.action),
        actor=row.actor,
        page=PageId(row.page) if row.page else None,
        objects=row.objects,
        outcome=row.outcome,
        patient=row.patient,
    )
    return Link(row.seq, row.at, record, previous, row.hash)


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(Head(row.seq, row.hash), row.at, row.signature)
