"""The one place that encrypts: who may read a room, keys to exactly them, ciphertext or nothing."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from mautrix.crypto import Session
from mautrix.errors import CryptoError, SessionNotFound
from mautrix.types import (
    CrossSigningUsage,
    DeviceIdentity,
    DeviceLists,
    DeviceOTKCount,
    EncryptedEvent,
    Event,
    EventType,
    RoomID,
    RoomKeyWithheldCode,
    RoomKeyWithheldEventContent,
    SessionID,
    ToDeviceEvent,
    TrustState,
    UserID,
)
from mautrix.types import EncryptionAlgorithm as Algorithm

from bridge.config import Trust
from bridge.matrix.homeserver import Homeserver, errors_of
from bridge.matrix.machine import Machine
from bridge.model.doors import Envelope, RawRoomEvent
from bridge.model.errors import EncryptionUnavailableError, UnreadableError
from bridge.model.ids import DeviceId, RoomId, UserId
from bridge.model.phi import Phi
from bridge.store import matrix_inbox, recipients
from bridge.store.database import Database
from bridge.store.matrix_inbox import DeviceMessage
from bridge.store.recipients import Outcome, Recipient

KEY_RETRY = timedelta(minutes=1)  # how long a device that offered no one-time key is left alone

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChangedIdentity:
    """A member whose cross-signing identity is not the one that was first seen."""

    user: UserId
    master_key: str


@dataclass(slots=True)
class _Checked:
    """The last time a room's readers were compared with its session."""

    session: str
    generation: int
    retry_at: datetime | None


@dataclass(slots=True)
class _Audience:
    """Every device of a room's members, by what may happen to it.

    Who is only invited gets keys, but could not see what is sent before they join.
    """

    joined: set[UserId] = field(default_factory=set)
    entitled: list[DeviceIdentity] = field(default_factory=list)
    refused: list[tuple[DeviceIdentity, Outcome]] = field(default_factory=list)


class Encryption:
    """Sessions of the rooms, and the messages in them."""

    def __init__(
        self,
        homeserver: Homeserver,
        machine: Machine,
        database: Database,
        trust: Trust,
        now: Callable[[], datetime],
    ) -> None:
        self._homeserver = homeserver
        self._machine = machine
        self._database = database
        self._trust = trust
        self._now = now
        self._locks: defaultdict[RoomId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._checked: dict[RoomId, _Checked] = {}
        self._generation = 0

    def forget_audiences(self) -> None:
        """Membership or devices have changed: compare every room's readers with its session before its next use."""
        self._generation += 1

    async def encrypt(self, room: RoomId, event_type: str, content: Phi[bytes]) -> Envelope:
        """Encrypt for the room's present readers. Raises EncryptionUnavailableError if there are none."""
        async with self._locks[room]:
            session = await self._ready_session(room)
            encrypted = await self._machine.encrypt_megolm_event(
                RoomID(room),
                EventType.find(event_type, EventType.Class.MESSAGE),
                json.loads(content.reveal()),
            )
        return Envelope(room, "m.room.encrypted", json.dumps(encrypted.serialize()), session)

    async def prepare(self, room: RoomId) -> None:
        """Share the room's keys now, so that the next message need not wait for it."""
        async with self._locks[room]:
            await self._ready_session(room)

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
        event = EncryptedEvent.deserialize(document)
        try:
            async with errors_of("fetch the sender's devices"):
                decrypted = await self._machine.decrypt_megolm_event(event)
        except SessionNotFound:
            message = "the key of a message has not come"
            raise UnreadableError(message) from None
        except (CryptoError, KeyError, ValueError, AttributeError) as error:
            message = f"a message could not be decrypted ({type(error).__name__})"
            raise UnreadableError(message) from None
        sender_key = str(getattr(event.content, "sender_key", "") or "")
        return decrypted, await self._may_be_obeyed(raw.sender, decrypted, sender_key)

    async def handle(self, message: DeviceMessage) -> list[ChangedIdentity]:
        """Give the machine something that a sync brought; returns identities that turn out to have changed."""
        content: Any = message.content
        if message.kind == "to_device":
            await self._receive(content)
        elif message.kind == "key_counts":
            await self._refill_keys(content)
        elif message.kind == "device_lists":
            async with errors_of("fetch changed devices"):
                await self._machine.handle_device_lists(DeviceLists.deserialize(content))
            self.forget_audiences()
            return await self.changed_identities([UserId(user) for user in content.get("changed", [])])
        return []

    async def changed_identities(self, users: list[UserId]) -> list[ChangedIdentity]:
        """Which of these people have another identity than the one first seen or approved."""
        changed = []
        for user in users:
            keys = await self._machine.crypto_store.get_cross_signing_keys(UserID(user))
            master = keys.get(CrossSigningUsage.MASTER)
            if master is not None and master.key != master.first:
                changed.append(ChangedIdentity(user, str(master.key)))
        return changed

    async def approve_identity(self, user: UserId) -> None:
        """Take a person's present identity as theirs from now on."""
        await self._machine.crypto_store.db.execute(
            "UPDATE crypto_cross_signing_keys SET first_seen_key=key WHERE user_id=$1", user
        )
        self.forget_audiences()

    async def _receive(self, content: Any) -> None:
        if content.get("type") != "m.room.encrypted":
            return
        try:
            # One transaction: a session's ratchet never advances without the room key that it carried.
            async with self._machine.transaction():
                await self._machine.handle_to_device_event(ToDeviceEvent.deserialize(content))
        except (CryptoError, KeyError, ValueError, AttributeError) as error:
            log.warning("to_device_unreadable", sender=content.get("sender"), error=type(error).__name__)

    async def _refill_keys(self, counts: dict[str, Any]) -> None:
        async with errors_of("publish one-time keys"):
            await self._machine.handle_otk_count(
                DeviceOTKCount(signed_curve25519=counts["one_time"], curve25519=0)
            )
            if counts["fallback_used"]:
                await self._machine.publish_fallback_key()

    async def _ready_session(self, room: RoomId) -> str:
        store = self._machine.crypto_store
        session = await store.get_outbound_group_session(RoomID(room))
        present = str(session.id) if session is not None and session.shared and not session.expired else None
        checked = self._checked.get(room)
        generation = self._generation
        retry_due = checked is not None and checked.retry_at is not None and self._now() >= checked.retry_at
        if checked and (checked.session, checked.generation) == (present, generation) and not retry_due:
            return checked.session
        audience = await self._audience(room)
        if not any(UserId(device.user_id) in audience.joined for device in audience.entitled):
            message = f"nobody in {room} has a device that may read it ({_reasons(audience)})"
            raise EncryptionUnavailableError(message)
        if present is not None and not retry_due:
            async with self._database.read() as connection:
                known = await recipients.of_session(connection, present)
            if _same_readers(known, audience):
                self._checked[room] = _Checked(present, generation, self._retry_at(known))
                return present
        session_id, given = await self._share_new_session(room, audience)
        self._checked[room] = _Checked(session_id, generation, self._retry_at(given))
        return session_id

    def _retry_at(self, given: list[Recipient]) -> datetime | None:
        lacking = any(recipient.outcome is Outcome.NO_ONE_TIME_KEY for recipient in given)
        return self._now() + KEY_RETRY if lacking else None

    async def _audience(self, room: RoomId) -> _Audience:
        async with self._database.read() as connection:
            members = await matrix_inbox.members(connection, room)
        users = [
            user
            for user, membership in members.items()
            if membership in ("join", "invite") and user != self._homeserver.bot
        ]
        store = self._machine.crypto_store
        untracked = [UserID(user) for user in users if await store.get_devices(UserID(user)) is None]
        if untracked:
            async with errors_of("fetch the members' devices"), self._machine._fetch_keys_lock:  # noqa: SLF001
                await self._machine._fetch_keys(untracked, include_untracked=True)  # noqa: SLF001
        audience = _Audience({user for user in users if members[user] == "join"})
        for user in users:
            for device in (await store.get_devices(UserID(user)) or {}).values():
                refusal = await self._refusal(device)
                if refusal is None:
                    audience.entitled.append(device)
                else:
                    audience.refused.append((device, refusal))
        return audience

    async def _refusal(self, device: DeviceIdentity) -> Outcome | None:
        """Why a device may not read, or None if it may."""
        trust = await self._machine.resolve_trust(device, allow_fetch=False)
        if trust == TrustState.BLACKLISTED:
            return Outcome.REFUSED_BLOCKED
        if self._trust is Trust.ALL or trust >= TrustState.CROSS_SIGNED_TOFU:
            return None
        keys = await self._machine.crypto_store.get_cross_signing_keys(device.user_id)
        master = keys.get(CrossSigningUsage.MASTER)
        if master is None:
            return None if self._trust is Trust.FIRST_USE else Outcome.REFUSED_UNSIGNED
        return Outcome.REFUSED_UNSIGNED if master.key == master.first else Outcome.REFUSED_CHANGED

    async def _may_be_obeyed(self, sender: UserId, event: Event, sender_key: str) -> bool:
        if self._trust is Trust.ALL:
            return True
        state = event["mautrix"]["trust_state"]
        if state >= TrustState.CROSS_SIGNED_TOFU:
            return True
        device = await self._machine.crypto_store.find_device_by_key(UserID(sender), sender_key)  # type: ignore[arg-type]
        return device is not None and await self._refusal(device) is None

    async def _share_new_session(self, room: RoomId, audience: _Audience) -> tuple[str, list[Recipient]]:
        machine = self._machine
        session = await machine._new_outbound_group_session(RoomID(room))  # noqa: SLF001
        wanted: dict[UserID, dict[Any, DeviceIdentity]] = defaultdict(dict)
        for device in audience.entitled:
            wanted[device.user_id][device.device_id] = device
        async with errors_of("claim one-time keys"):
            # It raises a bare Exception where a single device offers no key; which ones have a session is seen below.
            with suppress(_NoKeyError):
                await _create_olm_sessions(machine, dict(wanted))
        reached: list[tuple[DeviceIdentity, Session]] = []
        given = [_recipient(device, outcome) for device, outcome in audience.refused]
        for device in audience.entitled:
            olm_session = await machine.crypto_store.get_latest_session(device.identity_key)
            if olm_session is None:
                given.append(_recipient(device, Outcome.NO_ONE_TIME_KEY))
            else:
                reached.append((device, olm_session))
                given.append(_recipient(device, Outcome.SHARED))
        if not reached:
            message = f"no device in {room} that may read offers a one-time key"
            raise EncryptionUnavailableError(message)
        messages: dict[UserID, dict[Any, Any]] = defaultdict(dict)
        async with machine._olm_lock:  # noqa: SLF001
            async with machine.transaction():
                for device, olm_session in reached:
                    messages[device.user_id][device.device_id] = await machine._encrypt_olm_event(  # noqa: SLF001
                        olm_session, device, EventType.ROOM_KEY, session.share_content
                    )
            async with errors_of("share a room key"):
                await machine.client.send_to_device(EventType.TO_DEVICE_ENCRYPTED, messages)
        await self._tell_refused(room, str(session.id), audience)
        async with self._database.write() as connection:
            await recipients.keep(connection, room, str(session.id), given, self._now())
        session.shared = True
        await machine.crypto_store.add_outbound_group_session(session)
        log.info("room_key_shared", room=room, devices=len(reached), refused=len(given) - len(reached))
        return str(session.id), given

    async def _tell_refused(self, room: RoomId, session_id: str, audience: _Audience) -> None:
        """Say to refused devices why they can't read, so that their owner can see it (`m.room_key.withheld`)."""
        withheld: dict[UserID, dict[Any, Any]] = defaultdict(dict)
        for device, _ in audience.refused:
            withheld[device.user_id][device.device_id] = RoomKeyWithheldEventContent(
                room_id=RoomID(room),
                algorithm=Algorithm.MEGOLM_V1,
                session_id=SessionID(session_id),
                sender_key=self._machine.account.identity_key,
                code=RoomKeyWithheldCode.UNVERIFIED,
                reason="This device is not verified by its owner",
            )
        if withheld:
            async with errors_of("report a withheld room key"):
                await self._machine.client.send_to_device(EventType.ROOM_KEY_WITHHELD, withheld)


class _NoKeyError(Exception):
    """A claimed device offered no one-time key."""


async def _create_olm_sessions(machine: Machine, wanted: dict[UserID, dict[Any, DeviceIdentity]]) -> None:
    try:
        await machine._create_outbound_sessions(wanted)  # noqa: SLF001
    except Exception as error:
        if type(error) is Exception:
            raise _NoKeyError from None
        raise


def _recipient(device: DeviceIdentity, outcome: Outcome) -> Recipient:
    return Recipient(UserId(device.user_id), DeviceId(device.device_id), str(device.identity_key), outcome)


def _same_readers(known: list[Recipient], audience: _Audience) -> bool:
    had = {
        (r.user, r.device, r.identity_key)
        for r in known
        if r.outcome in (Outcome.SHARED, Outcome.NO_ONE_TIME_KEY)
    }
    return had == {(str(d.user_id), str(d.device_id), str(d.identity_key)) for d in audience.entitled}


def _reasons(audience: _Audience) -> str:
    if not audience.joined:
        return "nobody has joined yet"
    if not audience.refused:
        return "no member has any device"
    return ", ".join(sorted({outcome.value for _, outcome in audience.refused}))
