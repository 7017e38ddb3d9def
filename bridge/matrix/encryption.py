"""The one place that encrypts: keys to exactly those who may read a room, ciphertext or nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from mautrix.errors import SessionNotFound
from mautrix.types import (
    DeviceIdentity,
    DeviceLists,
    EncryptedEvent,
    Event,
    EventType,
    RoomID,
    RoomKeyWithheldCode,
    RoomKeyWithheldEventContent,
    SessionID,
    ToDeviceEvent,
    UserID,
)
from mautrix.types import EncryptionAlgorithm as Algorithm

from bridge.config import Trust
from bridge.ledger import Action, Record
from bridge.matrix.audience import Audience, Audiences, ChangedIdentity
from bridge.matrix.homeserver import errors_of
from bridge.matrix.machine import Machine
from bridge.model.doors import Envelope, RawRoomEvent
from bridge.model.errors import (
    EncryptionUnavailableError,
    NightbellError,
    UnreadableError,
)
from bridge.model.ids import DeviceId, RoomId, UserId
from bridge.model.phi import Phi
from bridge.store import ledger, matrix_inbox, recipients
from bridge.store.database import Database
from bridge.store.matrix_inbox import DeviceMessage
from bridge.store.recipients import Outcome, Recipient

KEY_RETRY = timedelta(minutes=1)  # how long a device that offered no one-time key is left alone
SETTLING_SECONDS = 1.5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Checked:
    """The last time a room's readers were compared with its session."""

    session: str
    generation: int
    people: frozenset[UserId]
    retry_at: datetime | None


class Encryption:
    """Sessions of the rooms, and the messages in them."""

    def __init__(
        self,
        machine: Machine,
        database: Database,
        trust: Trust,
        now: Callable[[], datetime],
    ) -> None:
        self._machine = machine
        self._database = database
        self._audiences = Audiences(machine, database, trust)
        self._now = now
        self._locks: defaultdict[RoomId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._checked: dict[RoomId, _Checked] = {}
        self._readers: dict[RoomId, tuple[int, frozenset[UserId], frozenset[UserId]]] = {}
        self._settled_at: dict[RoomId, float] = {}
        self._generation = 0

    def forget_audiences(self) -> None:
        """Membership or devices have changed: compare every room's readers with its session before its next use."""
        self._generation += 1

    def let_settle(self, rooms: Iterable[RoomId]) -> None:
        """Somebody has joined these rooms: give their client a moment to learn who the bot is.

        Element's crypto locks a message for good that comes before it has fetched its sender's devices.
        """
        settled = time.monotonic() + SETTLING_SECONDS
        self._settled_at.update(dict.fromkeys(rooms, settled))

    async def encrypt(
        self, room: RoomId, people: frozenset[UserId], event_type: str, content: Phi[bytes]
    ) -> Envelope:
        """Encrypt for those of `people` who can read the room. Raises EncryptionUnavailableError if nobody can."""
        await asyncio.sleep(max(0.0, self._settled_at.get(room, 0.0) - time.monotonic()))
        async with self._locks[room]:
            session = await self._ready_session(room, people)
            encrypted = await self._machine.encrypt_megolm_event(
                RoomID(room),
                EventType.find(event_type, EventType.Class.MESSAGE),
                json.loads(content.reveal()),
            )
        return Envelope(room, "m.room.encrypted", json.dumps(encrypted.serialize()), session)

    async def prepare(self, room: RoomId, people: frozenset[UserId]) -> None:
        """Share the room's keys now, so that the next message need not wait for it."""
        async with self._locks[room]:
            await self._ready_session(room, people)

    async def readers(self, room: RoomId, people: frozenset[UserId]) -> frozenset[UserId]:
        """Those of `people` who are in the room and have a device that may read it."""
        known = self._readers.get(room)
        if known is None or known[:2] != (self._generation, people):
            generation = self._generation
            audience = await self._audiences.of(room, people)
            entitled = {UserId(device.user_id) for device in audience.entitled}
            self._readers[room] = known = (generation, people, frozenset(audience.joined & entitled))
        return known[2]

    async def trusted(self, users: frozenset[UserId]) -> frozenset[UserId]:
        """Those who have a device that could read a room if they were in it."""
        return await self._audiences.trusted(users)

    async def decrypt(self, raw: RawRoomEvent) -> tuple[Event, bool]:
        """Decrypt, and say whether the sender's device is one that may be obeyed. Raises UnreadableError."""
        document: Any = {
            "room_id": raw.room,
            "event_id": raw.event,
            "sender": raw.sender,
            "origin_server_ts": int(raw.sent_at.timestamp() * 1000),
            "type": raw.type,
            "content": raw.content,
        }
        try:
            async with errors_of("fetch the sender's devices"):
                event = EncryptedEvent.deserialize(document)
                decrypted = await self._machine.decrypt_megolm_event(event)
        except SessionNotFound:
            message = "the key of a message has not come"
            raise UnreadableError(message) from None
        except NightbellError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the sender's bytes make of the libraries
            message = f"a message could not be decrypted ({type(error).__name__})"
            raise UnreadableError(message) from None
        session = str(raw.content["session_id"])
        obeyed = await self._audiences.may_be_obeyed(raw.sender, raw.room, session)
        if not obeyed and await self._is_behind():
            message = "the sender's devices have changed and are not known yet"
            raise UnreadableError(message)
        return decrypted, obeyed

    async def handle(self, message: DeviceMessage) -> list[ChangedIdentity]:
        """Give the machine something that a sync brought; returns identities that turn out to have changed."""
        content: Any = message.content
        if message.kind == "to_device":
            await self._receive(content)
        elif message.kind == "key_counts":
            await self._refill_keys(content)
        elif message.kind == "device_lists":
            await self._machine.lose_track(content.get("left", []))
            async with errors_of("fetch changed devices"):
                await self._machine.handle_device_lists(DeviceLists.deserialize(content))
            self.forget_audiences()
            return await self._audiences.changed(UserId(user) for user in content.get("changed", []))
        return []

    async def approve(self, identity: ChangedIdentity) -> bool:
        """Take an identity as its owner's from now on. False if they have yet another one by now."""
        approved = await self._audiences.approve(identity)
        self.forget_audiences()
        return approved

    async def _receive(self, content: Any) -> None:
        if content.get("type") != "m.room.encrypted":
            return
        try:
            await self._machine.receive(ToDeviceEvent.deserialize(content))
        except NightbellError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever was sent, the messages behind it must be taken
            log.warning("to_device_unreadable", sender=content.get("sender"), error=type(error).__name__)

    async def _refill_keys(self, counts: dict[str, Any]) -> None:
        async with errors_of("publish one-time keys"):
            # Asks the homeserver again: since it counted, keys may have been published, and too many push out others.
            await self._machine.share_keys()
            if counts["fallback_used"]:
                await self._machine.renew_fallback_key()

    async def _is_behind(self) -> bool:
        async with self._database.read() as connection:
            return bool(await matrix_inbox.waiting_device_messages(connection, 1))

    async def _ready_session(self, room: RoomId, people: frozenset[UserId]) -> str:
        store = self._machine.crypto_store
        session = await store.get_outbound_group_session(RoomID(room))
        present = str(session.id) if session is not None and session.shared and not session.expired else None
        checked = self._checked.get(room)
        generation = self._generation
        retry_due = checked is not None and checked.retry_at is not None and self._now() >= checked.retry_at
        same = (present, generation, people)
        if checked and (checked.session, checked.generation, checked.people) == same and not retry_due:
            return checked.session
        audience = await self._audiences.of(room, people)
        if not audience.has_readers():
            message = f"nobody in {room} has a device that may read it ({audience.why_nobody_reads()})"
            raise EncryptionUnavailableError(message)
        if present is not None and not retry_due:
            async with self._database.read() as connection:
                known = await recipients.of_session(connection, present)
            if audience.fits(known) and audience.is_reached_by(known):
                await self._refuse(room, present, audience.newly_refused(known))
                self._checked[room] = _Checked(present, generation, people, self._retry_at(known))
                return present
        session_id, given = await self._share_new_session(room, audience)
        self._checked[room] = _Checked(session_id, generation, people, self._retry_at(given))
        return session_id

    def _retry_at(self, given: list[Recipient]) -> datetime | None:
        lacking = any(recipient.outcome is Outcome.NO_ONE_TIME_KEY for recipient in given)
        return self._now() + KEY_RETRY if lacking else None

    async def _share_new_session(self, room: RoomId, audience: Audience) -> tuple[str, list[Recipient]]:
        machine = self._machine
        session = await machine._new_outbound_group_session(RoomID(room))  # noqa: SLF001
        async with errors_of("claim one-time keys"):
            await machine.open_olm_sessions(audience.entitled)
        messages: dict[UserID, dict[Any, Any]] = defaultdict(dict)
        given: list[Recipient] = []
        async with machine.olm_transaction():
            for device in audience.entitled:
                olm_session = await machine.crypto_store.get_latest_session(device.identity_key)
                given.append(_recipient(device, Outcome.SHARED if olm_session else Outcome.NO_ONE_TIME_KEY))
                if olm_session is not None:
                    messages[device.user_id][device.device_id] = await machine._encrypt_olm_event(  # noqa: SLF001
                        olm_session, device, EventType.ROOM_KEY, session.share_content
                    )
        if not audience.is_reached_by(given):
            message = f"nobody in {room} has a device that may read it and offers a one-time key"
            raise EncryptionUnavailableError(message)
        async with errors_of("share a room key"):
            await machine.client.send_to_device(EventType.TO_DEVICE_ENCRYPTED, messages)
        async with self._database.write() as connection:
            await recipients.keep(connection, room, str(session.id), given, self._now())
            await ledger.append(connection, [_key_shared(room, str(session.id), given)], self._now())
        await self._refuse(room, str(session.id), audience.refused)
        session.shared = True
        await machine.crypto_store.add_outbound_group_session(session)
        shared = sum(recipient.outcome is Outcome.SHARED for recipient in given)
        log.info("room_key_shared", room=room, devices=shared, lacking=len(given) - shared)
        return str(session.id), given

    async def _refuse(
        self, room: RoomId, session_id: str, refused: list[tuple[DeviceIdentity, Outcome]]
    ) -> None:
        """Say to refused devices why they can't read, so that their owner can see it (`m.room_key.withheld`)."""
        if not refused:
            return
        withheld: dict[UserID, dict[Any, Any]] = defaultdict(dict)
        for device, _ in refused:
            withheld[device.user_id][device.device_id] = RoomKeyWithheldEventContent(
                room_id=RoomID(room),
                algorithm=Algorithm.MEGOLM_V1,
                session_id=SessionID(session_id),
                sender_key=self._machine.account.identity_key,
                code=RoomKeyWithheldCode.UNVERIFIED,
                reason="This device is not verified by its owner",
            )
        async with errors_of("report a withheld room key"):
            await self._machine.client.send_to_device(EventType.ROOM_KEY_WITHHELD, withheld)
        given = [_recipient(device, outcome) for device, outcome in refused]
        async with self._database.write() as connection:
            await recipients.add(connection, room, session_id, given, self._now())
            await ledger.append(connection, [_key_shared(room, session_id, given)], self._now())
        log.info("room_key_withheld", room=room, devices=len(refused))


def _recipient(device: DeviceIdentity, outcome: Outcome) -> Recipient:
    return Recipient(UserId(device.user_id), DeviceId(device.device_id), str(device.identity_key), outcome)


def _key_shared(room: RoomId, session: str, given: list[Recipient]) -> Record:
    """For the ledger: which devices can read a session, and which were refused."""
    devices = {
        outcome: [f"{r.user}/{r.device}" for r in given if r.outcome is outcome] for outcome in Outcome
    }
    return Record(
        Action.KEY_SHARED,
        objects={"room": room, "session": session, **{o.value: d for o, d in devices.items() if d}},
        outcome="shared" if devices[Outcome.SHARED] else "withheld",
    )
