"""Content goes when its time is up: keys here, events in the rooms, and then a look whether they are gone.

Each step is a row, so that a sweep that was cut off goes on where it stood. Batches are small and a pause stands
between them: paging goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config.retention import OPERATIONS, After
from bridge.engine.rulebook import Clock, CurrentRulebook
from bridge.ledger import Action, Record, sign_statement
from bridge.model.doors import Eraser, Presence, Purge, Upload, Witness
from bridge.model.ids import EventId, RetentionClassId, RoomId
from bridge.policy.retention import Hold, Life, after, end_of, held_by
from bridge.store import attachments, holds, ledger, loose, retention
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.retention import Destruction, Erasure

CERTIFICATE = "certificate of destruction"
CIPHERTEXT = "ciphertext"  # what a witness says where the content itself is in a row
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 100  # a few milliseconds of the database's one writer
LATE = timedelta(days=1)
AGAIN = timedelta(minutes=1)  # after a sweep that the homeserver has cut off
BREATH_SECONDS = 0.02
LEFT = (
    "Members' devices may hold what was decrypted, exported, photographed or notified of before.",
    "Backups, write-ahead logs and replicas of the homeserver's database hold what they were made with.",
    "Backups of this database, made before, hold sealed keys; whoever has one and the operator's key can open it.",
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What the homeserver said of what had to go, when it was asked."""

    of: Destruction
    events: list[tuple[Erasure, Presence]]
    files: list[tuple[str, Presence]]
    at: datetime

    @property
    def looked(self) -> list[tuple[str, Presence]]:
        return [*((each.event, presence) for each, presence in self.events), *self.files]


class Retention:
    """Sweeps at start and then every so often."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        eraser: Eraser,
        rulebook: CurrentRulebook,
        *,
        now: Clock,
        witness: Witness | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._eraser = eraser
        self._witness = witness
        self._rulebook = rulebook
        self._now = now
        self._next = EPOCH

    async def step(self) -> float | None:
        """Sweep if it is time, and take back what was recalled.

        Raises HomeserverError, HomeserverDatabaseError; what was done until then stays done.
        """
        now = self._now()
        if now < self._next:
            await self._take_back()
            return (self._next - now).total_seconds()
        self._next = now + AGAIN
        destroyed = await self._destroy_pages() + await self._destroy_loose()
        async with self._database.write() as connection:
            days = await self._keys.forget_days(connection, now)
        if destroyed or days:
            log.info("content_destroyed", things=destroyed)
            await self._database.forget_deleted()
        async with self._database.read() as connection:
            late = await retention.stragglers(connection, now - LATE)
        if late:
            async with self._database.write() as connection:
                await retention.note_erasures(connection, late)
        await self._redact()
        await self._prove()
        config = self._rulebook().config
        # Clients make a new key at each rotation, so that twice as long is longer than any is used.
        await self._eraser.forget_keys(now - 2 * config.nightbell.encryption.rotate_after)
        every = self._rulebook().config.retention.sweep_every
        self._next = now + every
        return every.total_seconds()

    async def _take_back(self) -> None:
        async with self._database.read() as connection:
            recalled = await retention.is_recalled(connection)
        if recalled:
            await self._database.forget_deleted()
            await self._redact()
            await self._prove()

    async def _destroy_pages(self) -> int:
        async with self._database.read() as connection:
            classes = await retention.classes_alive(connection)
        return sum([await self._destroy_class(name) for name in classes])

    async def _destroy_class(self, name: RetentionClassId) -> int:
        config = self._rulebook().config.retention
        count = 0
        place: retention.Place | None = None
        while True:
            now = self._now()
            async with self._database.read() as connection:
                before = now - config.of(name).keep
                found = await retention.lives(
                    connection, name, opened_before=before, after=place, limit=BATCH
                )
            if not found:
                return count
            place = (found[-1].arrived, found[-1].page)
            over = [(life, end.why) for life in found if (end := end_of(config, life)).at <= now]
            if over:
                count += await self._destroy(over, now)
            await asyncio.sleep(BREATH_SECONDS)

    async def _destroy(self, over: list[tuple[Life, str]], now: datetime) -> int:
        async with self._database.write() as connection:
            in_force = await holds.in_force_until_commit(connection)
            held = [life for life, _ in over if held_by(in_force, [life])]
            due = [(life, why) for life, why in over if life not in held]
            await keep_held(connection, self._keys, held, in_force)
            gone = await retention.destroy_pages(connection, self._keys, due, now)
            records = [
                Record(Action.DESTROYED, page=life.page, objects={"class": life.retention, "why": why})
                for life, why in due
                if life.page in gone
            ]
            await ledger.append(connection, records, now)
        return len(gone)

    async def _destroy_loose(self) -> int:
        kind = self._rulebook().config.retention.of(OPERATIONS)
        keep, why = kind.keep, after(OPERATIONS, kind.model_copy(update={"after": After.ARRIVAL}))
        count = 0
        while True:
            now = self._now()
            async with self._database.read() as connection:
                in_force = await holds.in_force(connection)
                old = await loose.older_than(connection, now - keep, in_force)
                found = await loose.find(connection, old, limit=BATCH)
            if not found:
                return count
            async with self._database.write() as connection:
                if await holds.in_force_until_commit(connection) != in_force:
                    continue
                await loose.destroy(connection, self._keys, found, why, now)
                objects: dict[str, str | int] = {"class": OPERATIONS, "why": why, "things": len(found)}
                await ledger.append(connection, [Record(Action.DESTROYED, objects=objects)], now)
            count += len(found)
            await asyncio.sleep(BREATH_SECONDS)

    async def _redact(self) -> None:
        while True:
            async with self._database.read() as connection:
                waiting = await retention.waiting_erasures(connection, BATCH)
            if not waiting:
                return
            below: list[tuple[str, str, str]] = []
            redactions: dict[int, EventId | None] = {}
            try:
                for erasure in waiting:
                    # Before the event itself: what hangs below it can be found only while it is there.
                    children = await self._eraser.related(erasure.room, erasure.event)
                    below += [(erasure.destruction, erasure.room, child) for child in children]
                    transaction = f"nb-erase-{erasure.id}"
                    redactions[erasure.id] = await self._eraser.redact(
                        erasure.room, erasure.event, transaction
                    )
            finally:  # what the homeserver has done until it was gone need not be asked of it again
                async with self._database.write() as connection:
                    await retention.note_erasures(connection, below)
                    await retention.settle_erasures(connection, redactions)

    async def _prove(self) -> None:
        purged, signer = await self._purge(), self._keys.signer()
        count = 0
        while True:
            async with self._database.read() as connection:
                unproved = await retention.unproved(connection, BATCH)
                identifiers = [each.id for each in unproved]
                events = await retention.erasures_of(connection, identifiers)
                files = await attachments.files_of(connection, identifiers)
            if not unproved:
                break
            proofs = [await self._look(each, events[each.id], files[each.id]) for each in unproved]
            rows = await self._rows_left(proofs)
            certificates = {proof.of.id: _certificate(proof, purged, rows, signer) for proof in proofs}
            async with self._database.write() as connection:
                await retention.certify(connection, certificates)
            count += len(certificates)
            await asyncio.sleep(BREATH_SECONDS)
        if count:
            log.info("destruction_certified", certificates=count)

    async def _look(self, destroyed: Destruction, events: list[Erasure], files: list[Upload]) -> _Proof:
        gone = [(upload.mxc, await self._eraser.delete_file(upload)) for upload in files]
        return _Proof(
            destroyed,
            [(each, await self._eraser.look(each.room, each.event)) for each in events],
            [(mxc, presence) for mxc, presence in gone if presence is not None],
            self._now(),
        )

    async def _rows_left(self, proofs: Iterable[_Proof]) -> Mapping[str, tuple[str, ...]] | None:
        """What the homeserver's database still has of each event and file; None if it is not ours to read."""
        if self._witness is None:
            return None
        events = [each.event for proof in proofs for each, _ in proof.events]
        return await self._witness.left_of(events, [mxc for proof in proofs for mxc, _ in proof.files])

    async def _purge(self) -> dict[RoomId, Purge]:
        """Once for each room: it is the homeserver's heaviest work."""
        async with self._database.read() as connection:
            last = await retention.to_be_purged(connection)
            alive = await retention.oldest_alive(connection, list(last)) if last else {}
        outcome: dict[RoomId, Purge] = {}
        for room, erasure in last.items():
            # The newest event of a room can't be purged, and a redaction names what it took back.
            mark = alive.get(room) or await self._eraser.mark(room, f"nb-mark-{erasure.id}")
            before = mark or erasure.redaction
            assert before is not None  # noqa: S101 - only erasures with a redaction were taken
            outcome[room] = await self._eraser.purge(room, before)
            if outcome[room] is not Purge.DONE:
                log.warning("room_not_purged", room=room, outcome=outcome[room].value)
        return outcome


async def keep_held(
    connection: AsyncConnection, keys: KeyRing, lives: Iterable[Life], in_force: Iterable[Hold]
) -> None:
    """Move the keys of held pages under their holds' own, so that the rest of their days can go."""
    in_force = tuple(in_force)
    for life in lives:
        hold = held_by(in_force, [life])
        if hold is not None:
            await keys.hold(connection, await retention.keys_of(connection, [life.page]), hold.id)


def _certificate(
    proof: _Proof,
    purged: Mapping[RoomId, Purge],
    rows: Mapping[str, tuple[str, ...]] | None,
    signer: Ed25519PrivateKey,
) -> str:
    destroyed = proof.of
    left = [name for name, presence in proof.looked if presence is Presence.THERE]
    left += [
        name for name, _ in proof.looked if rows and CIPHERTEXT in rows.get(name, ()) and name not in left
    ]
    if left:
        log.error("content_still_there", certificate=destroyed.id, events=left)

    def seen(name: str, presence: Presence) -> dict[str, Any]:
        in_database = {} if rows is None else {"its_database_has": list(rows.get(name, ()))}
        return {"homeserver_has": presence.value, **in_database}

    statement = {
        "id": destroyed.id,
        "page": destroyed.page or "",
        "class": destroyed.retention,
        "why": destroyed.why,
        "keys_destroyed_at": destroyed.at.isoformat(),
        "homeserver_asked_at": proof.at.isoformat(),
        "homeserver_database": "not given to be read" if rows is None else "looked at",
        "events": [
            {"room": each.room, "event": each.event, **seen(each.event, presence)}
            for each, presence in proof.events
        ],
        "files": [{"file": mxc, **seen(mxc, presence)} for mxc, presence in proof.files],
        "what_may_remain": _what_may_remain(proof, purged, rows or {}),
    }
    return sign_statement(CERTIFICATE, statement, signer)


def _what_may_remain(
    proof: _Proof, rooms: Mapping[RoomId, Purge], rows: Mapping[str, tuple[str, ...]]
) -> list[str]:
    left = list(LEFT)
    if any(presence is Presence.REDACTED for _, presence in proof.events):
        left.append(
            "Of events that are redacted and not purged, the homeserver keeps the ciphertext until its "
            "redaction_retention_period is over."
        )
    here = {erasure.room for erasure, _ in proof.events}
    unpurged = sorted(room for room in here if rooms.get(room, Purge.DONE) is not Purge.DONE)
    if unpurged:
        left.append(f"The bot may not purge on this homeserver, or it failed, in: {', '.join(unpurged)}.")
    if any(presence is Presence.THERE for _, presence in proof.events):
        left.append("Events that the homeserver still has *there* were not taken back: somebody must look.")
    if any(presence is Presence.THERE for _, presence in proof.files):
        left.append(
            "Files that the homeserver still has *there* are encrypted, and nothing here opens them any more; "
            "the bot may not delete them: delete them by the admin API."
        )
    if any(name in rows for name, presence in proof.looked if presence is Presence.PURGED):
        left.append("The homeserver's database has rows of what its API calls purged: somebody must look.")
    return left
