"""From the outbox to the rooms: encrypt, keep the ciphertext, send; in order for each room, many rooms at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.ledger import Action, Record
from bridge.model import in_hand
from bridge.model.doors import Courier, Destination, Envelope
from bridge.model.errors import (
    EncryptionUnavailableError,
    HomeserverError,
    PlaintextRefusedError,
    StoreUnavailableError,
)
from bridge.model.ids import EventId, OutboxId
from bridge.model.phi import Phi
from bridge.model.tap import Tap
from bridge.store import ledger, outbox, pages
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.keys import KeyRing
from bridge.store.outbox import Entry, Purpose

FIRST_PAUSE = timedelta(milliseconds=250)
LONGEST_PAUSE = timedelta(seconds=5)  # an outage ends when it ends; a page waits for it no longer than this
UNREADABLE_PAUSE = timedelta(seconds=5)  # a member or device that can read is noticed sooner
OVERLAP = 1_000  # entries that may be committed after later ones, where a database has several writers
FULL_LOOK = timedelta(seconds=5)
JOINING_GRACE = timedelta(seconds=3)  # an invited member's client or homeserver may be about to join

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Record:
    """What has become of an entry: an envelope that must be kept before it is sent, or its event."""

    entry: Entry
    envelope: Envelope
    event: EventId | None


class Delivery:
    """Works through the outbox, one task for each room that has something to send."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        courier: Courier,
        *,
        now: Callable[[], datetime],
        rooms_at_once: int,
        report: Callable[[Entry, str, bool], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._keys = keys
        self._courier = courier
        self._now = now
        self._messages = asyncio.Semaphore(rooms_at_once)
        self._rest = asyncio.Semaphore(max(1, rooms_at_once // 4))
        self._report = report
        self._wake = wake
        self._records = GroupCommit(self._record)
        self._busy: set[Destination] = set()
        self._resume: dict[Destination, datetime] = {}
        self._seen = OutboxId(0)
        self._full_look_at: datetime | None = None

    async def step(self, group: asyncio.TaskGroup) -> float | None:
        """Start a task for every room that has something to send and none at work. Returns when to look again.

        Between two looks at the whole outbox only its newest entries are looked at, so that a long backlog does
        not slow the next page down.
        """
        now = self._now()
        everything = self._full_look_at is None or now >= self._full_look_at
        async with self._database.read() as connection:
            after = OutboxId(0 if everything else max(0, self._seen - OVERLAP))
            found, self._seen = await outbox.destinations(connection, after)
        if everything:
            self._full_look_at = now + FULL_LOOK
        resumed = [destination for destination, moment in self._resume.items() if moment <= now]
        for destination in dict.fromkeys([*found, *resumed]):
            if destination not in self._busy and self._resume.get(destination, now) <= now:
                self._resume.pop(destination, None)
                self._busy.add(destination)
                group.create_task(self._drain(destination), name=f"deliver {destination}")
        pauses = [(moment - now).total_seconds() for moment in self._resume.values()]
        return max(0.0, min(pauses)) if pauses else None

    async def hasten(self) -> None:
        """Try what was postponed at once: members or devices have changed, or the homeserver is back."""
        async with self._database.write() as connection:
            await outbox.hasten(connection, self._now())
        self._resume.clear()
        self._full_look_at = None
        self._wake()

    async def _drain(self, destination: Destination) -> None:
        try:
            while await self._send_next(destination):
                pass
        except Exception as error:
            log.exception("delivery_crashed", destination=str(destination), error=type(error).__name__)
            self._resume[destination] = self._now() + LONGEST_PAUSE
        finally:
            self._busy.discard(destination)
            self._wake()

    async def _send_next(self, destination: Destination) -> bool:
        """Send one entry. False when the room has nothing more, or must wait."""
        in_hand.take()  # what this entry says is opened anew, and nothing of the one before
        async with self._database.read() as connection:
            entry = await outbox.head(connection, self._keys, destination)
        if entry is None:
            return False
        if entry.not_before > self._now():
            self._resume[destination] = entry.not_before
            return False
        return await self._try(entry)

    async def _try(self, entry: Entry) -> bool:
        try:
            # The homeserver is the limit in a burst, and then it is for pages: buttons and history get a share.
            async with self._messages if entry.purpose.lane == 0 else self._rest:
                await self._send(entry)
        except HomeserverError as error:
            if error.retry:
                await self._homeserver_away(entry, str(error))
                return False
            await self._give_up(entry, str(error))
        except EncryptionUnavailableError as error:
            await self._unreadable(entry, str(error))
            return False
        except StoreUnavailableError:
            raise
        except PlaintextRefusedError as error:
            log.exception("plaintext_refused", outbox=entry.id, purpose=entry.purpose.value)
            await self._keep_back(
                entry, f"a fault of the bridge, which the plaintext budget stopped: {error}"
            )
            return False
        except Exception as error:
            log.exception("send_failed", outbox=entry.id, error=type(error).__name__)
            await self._keep_back(entry, f"a fault of the bridge, {type(error).__name__}; its log says where")
            return False
        return True

    async def _send(self, entry: Entry) -> None:
        envelope = entry.envelope or await self._prepare(entry)
        if envelope is None:
            await self._give_up(entry, "what it speaks of was never sent or is destroyed")
            return
        event = entry.confirmed or await self._courier.send(envelope, entry.transaction)
        await self._records.add(_Record(entry, envelope, event))
        log.info("sent", outbox=entry.id, purpose=entry.purpose.value, room=envelope.room, event_id=event)

    async def _prepare(self, entry: Entry) -> Envelope | None:
        """The bytes to send; None if there is nothing to say any more."""
        room = await self._courier.room(entry.destination)
        if entry.content is None or (entry.related and entry.target is None):
            return None
        if entry.purpose is Purpose.SEED:
            assert entry.target is not None  # noqa: S101 - a seed stands under a message
            # The same bytes at every try, so that there is nothing to keep.
            return self._courier.seed(room, entry.target, Tap(entry.content.reveal().decode()))
        content = _related(entry.content, entry.purpose, entry.target) if entry.target else entry.content
        envelope = await self._courier.encrypt(room, entry.event_type, content)
        await self._records.add(_Record(entry, envelope, None))
        return envelope

    async def _record(self, records: Sequence[_Record]) -> Sequence[None]:
        now = self._now()
        kept = [(record.entry.id, record.envelope) for record in records if record.event is None]
        sent = [(record.entry.id, record.envelope.room, record.event) for record in records if record.event]
        arrived = [
            record.entry for record in records if record.event and record.entry.purpose is Purpose.PAGE
        ]
        delivered = [entry.page for entry in arrived if entry.page]
        late = [entry.page for entry in arrived if entry.page and entry.attempts]
        async with self._database.write() as connection:
            await outbox.keep_envelopes(connection, kept)
            await outbox.mark_sent(connection, sent, now)
            if late:
                await pages.begin_again(connection, late, now)
            await pages.mark_delivered(connection, delivered, now)
            told = [_sent(record) for record in records if record.event and record.envelope.session]
            await ledger.append(connection, told, now)
        return [None] * len(records)

    async def _homeserver_away(self, entry: Entry, reason: str) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(entry.attempts, 10), LONGEST_PAUSE)
        log.warning("send_postponed", outbox=entry.id, reason=reason, seconds=pause.total_seconds())
        async with self._database.write() as connection:
            await self._postpone(connection, entry, pause, reason)

    async def _unreadable(self, entry: Entry, reason: str) -> None:
        """Nobody in the room could read it: it is kept back."""
        grace = entry.created_at + JOINING_GRACE - self._now()
        if grace > timedelta(0):
            async with self._database.write() as connection:
                await self._postpone(connection, entry, grace, "waits for somebody to join")
            return
        await self._keep_back(entry, reason)

    async def _keep_back(self, entry: Entry, reason: str) -> None:
        """It is tried again and again; its page climbs at once, and operations hear of it once."""
        async with self._database.write() as connection:
            await self._postpone(connection, entry, UNREADABLE_PAUSE, reason)
            if entry.page is not None:
                await pages.hurry(connection, entry.page, self._now())
        if entry.error != reason:
            await self._report(entry, reason, False)  # noqa: FBT003 - not lost

    async def _postpone(
        self, connection: AsyncConnection, entry: Entry, pause: timedelta, reason: str
    ) -> None:
        until = self._now() + pause
        await outbox.postpone(connection, entry.id, until, reason)
        self._resume[entry.destination] = until

    async def _give_up(self, entry: Entry, reason: str) -> None:
        async with self._database.write() as connection:
            await outbox.mark_failed(connection, entry.id, reason)
            if entry.page is not None and entry.purpose in (Purpose.PAGE, Purpose.NUDGE):
                await pages.hurry(connection, entry.page, self._now())
            objects = {"destination": str(entry.destination), "purpose": entry.purpose.value}
            given_up = Record(Action.NOT_SENT, page=entry.page, objects=objects, outcome=reason)
            await ledger.append(connection, [given_up], self._now())
        if not entry.related:  # what it is about is known to be lost already
            await self._report(entry, reason, True)  # noqa: FBT003 - lost


def _sent(record: _Record) -> Record:
    """For the ledger: accepted by the homeserver, as ciphertext of a key that these devices have."""
    envelope = record.envelope
    objects = {
        "purpose": record.entry.purpose.value,
        "room": envelope.room,
        "event": record.event or "",
        "session": envelope.session or "",
    }
    return Record(Action.SENT, page=record.entry.page, objects=objects)


def _related(content: Phi[bytes], purpose: Purpose, target: EventId) -> Phi[bytes]:
    """Tie a message to the one it replaces or answers, whose event id is known only now that it was sent."""
    document: dict[str, Any] = json.loads(content.reveal())
    if purpose is Purpose.STATUS:
        document["m.relates_to"] = {"rel_type": "m.replace", "event_id": target}
    elif purpose in (Purpose.NOTE, Purpose.MEDIA):
        # Clients without threads show it as a reply (Matrix spec, 'Threading').
        fallback = {"is_falling_back": True, "m.in_reply_to": {"event_id": target}}
        document["m.relates_to"] = {"rel_type": "m.thread", "event_id": target, **fallback}
    else:
        document["m.relates_to"] = {"m.in_reply_to": {"event_id": target}}
    return Phi(json.dumps(document).encode())
