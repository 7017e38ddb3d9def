"""Recordings, pictures and files of events: fetched, encrypted, uploaded, then shown in the rooms of their pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, and_, bindparam, case, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.attachment import Attachment
from bridge.model.doors import Destination, Upload
from bridge.model.ids import ChannelId, IntakeId, PageId, UserId
from bridge.model.phi import Phi
from bridge.store.keys import WRAPPED, KeyRing
from bridge.store.outbox import Purpose
from bridge.store.tables import (
    attachment,
    data_key,
    day_key,
    erasure,
    event_of_page,
    inbound,
    intake,
    outbox,
    page,
    room_file,
)
from bridge.vault import Key, VaultError

_media = outbox.alias("media")


@dataclass(frozen=True, slots=True)
class Waiting:
    """One that is not uploaded yet. `file` and `mxc` are there once it is encrypted, and has an address."""

    id: str
    intake: IntakeId
    channel: ChannelId
    key: Key
    attachment: Attachment | None
    file: bytes | None
    mxc: str | None
    attempts: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Locked:
    """One that does not open: its row was changed, or its key is not the one that it was sealed under."""

    id: str
    channel: ChannelId


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page's message stands, in the thread of which its attachments belong."""

    page: PageId
    destination: Destination
    message: str  # its transaction
    urgency: int


@dataclass(frozen=True, slots=True)
class Unposted:
    """One that is uploaded, and has not been put into a thread yet. `content` is what the room is told of it."""

    id: str
    place: Place
    mxc: str
    key: Key
    content: Phi[bytes]

    @property
    def transaction(self) -> str:
        """The same each time, so that it is sent once."""
        return f"{self.place.message}-{self.id}"


@dataclass(frozen=True, slots=True)
class Untranscribed:
    """A recording that is to be written down. `content` is what the rooms were told of it, its key among it."""

    id: str
    intake: IntakeId
    channel: ChannelId
    key: Key
    content: Phi[bytes]
    file: bytes
    attempts: int


async def put(
    connection: AsyncConnection,
    intake_id: IntakeId,
    key: Key,
    found: Sequence[Attachment],
    now: datetime,
    *,
    channel: ChannelId,
) -> None:
    """Keep an event's attachments, or where they are, under the event's key."""
    rows = []
    for each in found:
        name = uuid4().hex
        rows.append(
            {
                "id": name,
                "intake": intake_id,
                "channel": channel,
                "sealed": key.seal(each.seal_form(), f"attachment {name}"),
                "state": "todo",
                "attempts": 0,
                "not_before": now,
            }
        )
    if rows:
        await connection.execute(insert(attachment), rows)


async def waiting(
    connection: AsyncConnection, keys: KeyRing, now: datetime, *, but: Collection[str], limit: int
) -> list[Waiting | Locked]:
    """Those of routed events that are due."""
    query = (
        _with_keys()
        .where(
            attachment.c.state.in_(["todo", "encrypted"]),
            attachment.c.not_before <= now,
            attachment.c.id.not_in(but),
            exists().where(event_of_page),
        )
        .order_by(attachment.c.not_before)
        .limit(limit)
    )
    found: list[Waiting | Locked] = []
    for row in (await connection.execute(query)).all():
        opened = None
        try:
            key = _key(row, keys)
            if row.sealed is not None:
                opened = Attachment.from_seal_form(key.open(row.sealed, f"attachment {row.id}"))
        except VaultError:
            found.append(Locked(row.id, ChannelId(row.channel)))
            continue
        found.append(
            Waiting(
                id=row.id,
                intake=IntakeId(row.intake),
                channel=ChannelId(row.channel),
                key=key,
                attachment=opened,
                file=row.file,
                mxc=row.mxc,
                attempts=row.attempts,
                received_at=row.received_at,
            )
        )
    return found


async def keep_file(
    connection: AsyncConnection,
    one: Waiting,
    content: Phi[bytes],
    file: bytes,
    *,
    remove: bool,
    transcribe: bool = False,
) -> None:
    """Keep the ciphertext that will be uploaded, what a room will be told of it, and where it can be deleted."""
    fetched = one.attachment is not None and one.attachment.place is not None
    values: dict[str, Any] = {
        "state": "encrypted",
        "sealed_message": one.key.seal(content, f"message of {one.id}"),
        "file": file,
        "transcript": "todo" if transcribe else None,
        "at_source": "todo" if remove and fetched else None,
        "attempts": 0,
    }
    if remove and fetched and one.attachment is not None:
        values["sealed"] = one.key.seal(one.attachment.seal_form(), f"attachment {one.id}")
    else:
        values["sealed"] = None
    await _change(connection, one.id, "todo", values)


async def keep_address(connection: AsyncConnection, one: Waiting, mxc: str | None) -> bool:
    """Keep the address before anything is uploaded there, so that what is uploaded can always be deleted.

    False if the content was destroyed meanwhile: then nothing may be uploaded.
    """
    return await _change(connection, one.id, "encrypted", {"mxc": mxc})


async def mark_uploaded(connection: AsyncConnection, one: Waiting) -> None:
    """The homeserver has it. The ciphertext stays here only if it is yet to be written down."""
    file = case((attachment.c.transcript == "todo", attachment.c.file), else_=None)
    values = {"state": "uploaded", "file": file, "error": None, "attempts": 0}
    await _change(connection, one.id, "encrypted", values)


async def postpone(connection: AsyncConnection, one: Waiting, until: datetime, error: str) -> None:
    """Try again later."""
    values = {"attempts": attachment.c.attempts + 1, "not_before": until, "error": error}
    await connection.execute(update(attachment).where(attachment.c.id == one.id).values(values))


async def mark_failed(connection: AsyncConnection, one: Waiting | Locked, error: str) -> None:
    """It can't be had, for a reason that holds no PHI."""
    values = {"state": "failed", "error": error, "sealed": None, "file": None}
    await connection.execute(
        update(attachment).where(attachment.c.id == one.id, attachment.c.state != "destroyed").values(values)
    )


async def places(connection: AsyncConnection, intake_id: IntakeId) -> list[Place]:
    """Where the pages of an event are shown."""
    query = (
        select(outbox.c.page, outbox.c.destination, outbox.c.txn_id, outbox.c.urgency)
        .join(page, page.c.id == outbox.c.page)
        .join(intake, event_of_page)
        .where(intake.c.id == intake_id, outbox.c.purpose == Purpose.PAGE.value)
    )
    return [_place(row) for row in (await connection.execute(query)).all()]


async def unposted(connection: AsyncConnection, keys: KeyRing) -> list[Unposted]:
    """What is uploaded and missing in a thread of a page: it was never there, or the page has come to another room."""
    query = (
        _with_keys(outbox.c.page, outbox.c.destination, outbox.c.txn_id, outbox.c.urgency)
        .join(page, event_of_page)
        .join(outbox, and_(outbox.c.page == page.c.id, outbox.c.purpose == Purpose.PAGE.value))
        .where(
            attachment.c.state == "uploaded",
            page.c.destroyed_at.is_(None),
            ~exists().where(_media.c.txn_id == outbox.c.txn_id + "-" + attachment.c.id),
        )
    )
    found = []
    for row in (await connection.execute(query)).all():
        with suppress(VaultError):  # a row that was changed must not keep others back
            key = _key(row, keys)
            content = key.open(row.sealed_message, f"message of {row.id}")
            found.append(Unposted(row.id, _place(row), row.mxc, key, content))
    return found


async def to_remove(connection: AsyncConnection, keys: KeyRing, now: datetime, limit: int) -> list[Waiting]:
    """Those that are to be deleted at their source, and have been sent to every room they belong in."""
    mine = _media.c.txn_id == outbox.c.txn_id + "-" + attachment.c.id
    unsent = (
        select(outbox.c.id)
        .join(page, page.c.id == outbox.c.page)
        .where(
            event_of_page,
            page.c.destroyed_at.is_(None),
            outbox.c.purpose == Purpose.PAGE.value,
            ~exists().where(mine, _media.c.state == "sent"),
        )
    )
    query = (
        _with_keys()
        .where(
            attachment.c.state == "uploaded",
            attachment.c.at_source == "todo",
            attachment.c.not_before <= now,
            exists().where(
                event_of_page, outbox.c.page == page.c.id, outbox.c.purpose == Purpose.MEDIA.value
            ),
            ~unsent.correlate(attachment, intake).exists(),
        )
        .limit(limit)
    )
    found = []
    for row in (await connection.execute(query)).all():
        with suppress(VaultError):  # what does not open stays at its source
            key = _key(row, keys)
            found.append(
                Waiting(
                    id=row.id,
                    intake=IntakeId(row.intake),
                    channel=ChannelId(row.channel),
                    key=key,
                    attachment=Attachment.from_seal_form(key.open(row.sealed, f"attachment {row.id}")),
                    file=None,
                    mxc=row.mxc,
                    attempts=row.attempts,
                    received_at=row.received_at,
                )
            )
    return found


async def untranscribed(connection: AsyncConnection, keys: KeyRing, now: datetime) -> Untranscribed | None:
    """The next recording that is uploaded and to be written down."""
    query = (
        _with_keys()
        .where(
            attachment.c.transcript == "todo",
            attachment.c.state == "uploaded",
            attachment.c.not_before <= now,
        )
        .order_by(attachment.c.not_before)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    key = _key(row, keys)
    content = key.open(row.sealed_message, f"message of {row.id}")
    return Untranscribed(
        row.id, IntakeId(row.intake), ChannelId(row.channel), key, content, row.file, row.attempts
    )


async def postpone_transcript(connection: AsyncConnection, one: Untranscribed, until: datetime) -> None:
    """Try again later."""
    values = {"attempts": attachment.c.attempts + 1, "not_before": until}
    await connection.execute(update(attachment).where(attachment.c.id == one.id).values(values))


async def end_transcript(connection: AsyncConnection, one: Untranscribed, outcome: str) -> bool:
    """It is `done`, or `failed` for good. False if it was destroyed in the meantime."""
    statement = update(attachment).where(attachment.c.id == one.id, attachment.c.state == "uploaded")
    return bool((await connection.execute(statement.values(transcript=outcome, file=None))).rowcount)


async def mark_removed(connection: AsyncConnection, one: Waiting) -> None:
    """Its source has it no more."""
    values = {"at_source": "gone", "sealed": None, "error": None}
    await connection.execute(update(attachment).where(attachment.c.id == one.id).values(values))


async def depth(connection: AsyncConnection) -> int:
    """How many are not uploaded yet."""
    query = select(func.count()).select_from(attachment)
    query = query.where(attachment.c.state.in_(["todo", "encrypted"]))
    return int((await connection.execute(query)).scalar_one())


async def addresses_of(connection: AsyncConnection, pages: Sequence[PageId]) -> dict[str, PageId]:
    """What these pages' attachments are at the homeserver, uploaded or about to be: mxc://... and the page."""
    query = (
        select(attachment.c.mxc, page.c.id)
        .join(intake, intake.c.id == attachment.c.intake)
        .join(page, event_of_page)
        .where(page.c.id.in_(pages), attachment.c.mxc.is_not(None))
    )
    return {row.mxc: PageId(row.id) for row in (await connection.execute(query)).all()}


async def destroy(connection: AsyncConnection, of: Mapping[str, str]) -> None:
    """Their content and keys go, for these events' destructions. What was uploaded is deleted by its address."""
    query = select(attachment.c.intake).where(attachment.c.intake.in_(list(of))).distinct()
    rows = [{"event": name, "for": of[name]} for name in (await connection.execute(query)).scalars()]
    if not rows:
        return
    gone = dict.fromkeys(["sealed", "sealed_message", "file", "at_source", "transcript"])
    statement = update(attachment).where(attachment.c.intake == bindparam("event"))
    statement = statement.values(state="destroyed", **gone, destruction=bindparam("for"))
    await connection.execute(statement, rows)


@dataclass(frozen=True, slots=True)
class Kept:
    """An attachment as it is kept: as it came, or encrypted, here or at the homeserver; and what rooms are told."""

    id: str
    attachment: Attachment | None
    message: Phi[bytes] | None
    file: bytes | None
    mxc: str | None


async def kept_of(connection: AsyncConnection, keys: KeyRing, intake_id: IntakeId) -> list[Kept]:
    """All of an event. Raises VaultError."""
    query = _with_keys().where(attachment.c.intake == intake_id).order_by(attachment.c.id)
    found = []
    for row in (await connection.execute(query)).all():
        key = _key(row, keys)
        came = row.sealed and Attachment.from_seal_form(key.open(row.sealed, f"attachment {row.id}"))
        message = row.sealed_message and key.open(row.sealed_message, f"message of {row.id}")
        found.append(Kept(row.id, came or None, message or None, row.file, row.mxc))
    return found


async def files_of(connection: AsyncConnection, destructions: Sequence[str]) -> dict[str, list[Upload]]:
    """What must be deleted at the homeserver for destructions: ours, and what people put into the rooms.

    A file that people show in several messages goes with the last of them.
    """
    ours = select(attachment.c.destruction, attachment.c.mxc).where(
        attachment.c.destruction.in_(destructions), attachment.c.mxc.is_not(None)
    )
    again, other = room_file.alias(), inbound.alias()
    shown = exists().where(
        again.c.mxc == room_file.c.mxc, other.c.event_id == again.c.event_id, other.c.state != "destroyed"
    )
    theirs = (
        select(erasure.c.destruction, room_file.c.mxc, inbound.c.sender)
        .join(inbound, inbound.c.event_id == room_file.c.event_id)
        .join(erasure, erasure.c.event == room_file.c.event_id)
        .where(erasure.c.destruction.in_(destructions), ~shown)
        .distinct()
    )
    found: dict[str, list[Upload]] = {identifier: [] for identifier in destructions}
    for row in (await connection.execute(ours)).all():
        found[row.destruction].append(Upload(row.mxc))
    for identifier, mxc, sender in (await connection.execute(theirs)).all():
        found[identifier].append(Upload(mxc, UserId(sender)))
    return found


async def _change(connection: AsyncConnection, name: str, state: str, values: dict[str, Any]) -> bool:
    """Only from this state: it may have been destroyed in the meantime."""
    statement = update(attachment).where(attachment.c.id == name, attachment.c.state == state)
    return bool((await connection.execute(statement.values(values))).rowcount)


def _with_keys(*more: Any) -> Select[Any]:
    return (
        select(
            attachment,
            intake.c.data_key,
            intake.c.received_at,
            *WRAPPED,
            *more,
        )
        .join(intake, intake.c.id == attachment.c.intake)
        .join(data_key, data_key.c.id == intake.c.data_key)
        .join(day_key, day_key.c.id == data_key.c.day_key)
    )


def _key(row: Row[Any], keys: KeyRing) -> Key:
    return keys.key_of_row(row)


def _place(row: Any) -> Place:
    return Place(PageId(row.page), Destination.parse(row.destination), row.txn_id, row.urgency)
