"""A channel's raw traffic, recorded because somebody asked for it: sealed, bounded, and gone after a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.ledger import Action, Record
from bridge.model.errors import NightbellError
from bridge.model.ids import ChannelId, RetentionClassId
from bridge.model.phi import Phi
from bridge.policy.retention import Hold
from bridge.store import holds, ledger
from bridge.store.keys import KeyRing
from bridge.store.tables import capture, captured
from bridge.vault import Key

CAPTURE_CLASS = RetentionClassId("capture")


class CaptureHeldError(NightbellError):
    """A legal hold keeps what was recorded of a channel; it goes once the hold is lifted."""


@dataclass(frozen=True, slots=True)
class Capture:
    """That a channel's traffic is, or was, recorded."""

    channel: ChannelId
    by: str
    since: datetime
    until: datetime
    bytes_left: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """What came (`<`) or was said (`>`), as it was on the wire."""

    at: datetime
    way: str
    raw: Phi[bytes]


async def begin(connection: AsyncConnection, keys: KeyRing, wanted: Capture) -> None:
    """Have a channel recorded under a fresh key; what was recorded of it before is destroyed."""
    before = [each for each in await known(connection) if each.channel == wanted.channel]
    await destroy(connection, keys, before, wanted.since)
    key = await keys.new_data_key(connection, CAPTURE_CLASS, wanted.since)
    await connection.execute(
        insert(capture).values(
            channel=wanted.channel,
            data_key=key.id,
            asked_by=wanted.by,
            asked_at=wanted.since,
            until=wanted.until,
            bytes_left=wanted.bytes_left,
        )
    )
    seconds = round((wanted.until - wanted.since).total_seconds())
    record = Record(Action.CAPTURED, wanted.by, objects={"channel": str(wanted.channel), "seconds": seconds})
    await ledger.append(connection, [record], wanted.since)


async def known(connection: AsyncConnection) -> list[Capture]:
    """All that are going on, or have something to show."""
    rows = (await connection.execute(select(capture).order_by(capture.c.channel))).all()
    return [
        Capture(ChannelId(row.channel), row.asked_by, row.asked_at, row.until, row.bytes_left, row.data_key)
        for row in rows
    ]


async def put(connection: AsyncConnection, key: Key, pieces: Sequence[Piece], bytes_left: int) -> None:
    """Keep pieces, and how much there is room for yet."""
    rows = [
        {
            "data_key": key.id,
            "at": piece.at,
            "way": piece.way,
            "sealed": key.seal(piece.raw, f"capture {key.id}"),
        }
        for piece in pieces
    ]
    await connection.execute(insert(captured), rows)
    await connection.execute(
        update(capture).where(capture.c.data_key == key.id).values(bytes_left=bytes_left)
    )


async def pieces_of(connection: AsyncConnection, keys: KeyRing, of: Capture) -> list[Piece]:
    """What was recorded, opened."""
    key = await keys.data_key(connection, of.key)
    query = select(captured).where(captured.c.data_key == of.key).order_by(captured.c.id)
    return [
        Piece(row.at, row.way, key.open(row.sealed, f"capture {key.id}"))
        for row in (await connection.execute(query)).all()
    ]


def held(of: Capture, in_force: Iterable[Hold]) -> Hold | None:
    """The hold that keeps what was recorded: any of its time, since raw traffic does not say whom it is about."""
    return next((hold for hold in in_force if hold.may_concern(of.since, of.until)), None)


async def keep_held(connection: AsyncConnection, keys: KeyRing, in_force: Sequence[Hold]) -> int:
    """Move the keys of what holds keep under the holds' own. Returns of how many channels it is."""
    kept = [(each, hold) for each in await known(connection) if (hold := held(each, in_force))]
    for each, hold in kept:
        await keys.hold(connection, [each.key], hold.id)
    return len(kept)


async def destroy(connection: AsyncConnection, keys: KeyRing, gone: Sequence[Capture], now: datetime) -> None:
    """Destroy what was recorded, and its key. Raises CaptureHeldError."""
    ids = [each.key for each in gone]
    if not ids:
        return
    in_force = await holds.in_force_until_commit(connection)
    for each in gone:
        if hold := held(each, in_force):
            message = f"hold {hold.id} keeps what was recorded of {each.channel}: read it with --show, or lift the hold"
            raise CaptureHeldError(message)
    await connection.execute(delete(captured).where(captured.c.data_key.in_(ids)))
    await connection.execute(delete(capture).where(capture.c.data_key.in_(ids)))
    await keys.destroy(connection, ids, now.date().isoformat())
    records = [Record(Action.DESTROYED, objects={"capture": each.channel}) for each in gone]
    await ledger.append(connection, records, now)
