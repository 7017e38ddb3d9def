"""The encryption machine: mautrix's, with what it lacks.

It keeps one-time keys before it publishes them, so that a crash can't leave the homeserver handing out keys
whose private half is lost; it publishes a fallback key (Matrix spec, 'One-time and fallback keys'), so that
a device can always be reached; and it takes room keys from the devices that made them only, since a key that
somebody passes on proves nothing of who encrypts with it. This, `audience.py` and `encryption.py` are the only
files that stand on mautrix's internals.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from mautrix.api import Method
from mautrix.client import Client
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.crypto.account import OlmAccount
from mautrix.crypto.cross_signing_key import CrossSigningSeeds
from mautrix.crypto.signature import sign_olm
from mautrix.crypto.ssss.key import Key as RecoveryKey
from mautrix.crypto.store import StateStore
from mautrix.errors import MatrixConnectionError, MatrixRequestError
from mautrix.types import (
    DeviceID,
    DeviceIdentity,
    DeviceKeys,
    EncryptionAlgorithm,
    EventType,
    IdentityKey,
    QueryKeysResponse,
    RoomEncryptionStateEventContent,
    RoomID,
    ToDeviceEvent,
    TrustState,
    UserID,
)

from bridge.matrix.homeserver import _SILENT, path
from bridge.model.errors import StoreUnavailableError

FALLBACK_REST_SECONDS = 60  # two renewals within it would lose the key that messages on their way still use

log = structlog.get_logger(__name__)


class Rotation(StateStore):
    """What mautrix asks of the rooms: how often sessions rotate. Membership is `encryption.py`'s own matter."""

    def __init__(self, max_age_ms: int, max_messages: int) -> None:
        self._info = RoomEncryptionStateEventContent(
            algorithm=EncryptionAlgorithm.MEGOLM_V1,
            rotation_period_ms=max_age_ms,
            rotation_period_msgs=max_messages,
        )

    async def is_encrypted(self, room_id: RoomID) -> bool:  # noqa: ARG002
        return True

    async def get_encryption_info(self, room_id: RoomID) -> RoomEncryptionStateEventContent | None:  # noqa: ARG002
        return self._info

    async def find_shared_rooms(self, user_id: UserID) -> list[RoomID]:  # noqa: ARG002
        return []


class Machine(OlmMachine):
    """The bot's encryption machine."""

    crypto_store: PgCryptoStore
    account: OlmAccount

    def __init__(self, client: Client, store: PgCryptoStore, rotation: Rotation) -> None:
        super().__init__(client, store, rotation, log=_SILENT)  # type: ignore[arg-type]
        # The bot never reads what it wrote, so it keeps no key to it.
        self.dont_store_outbound_keys = True
        self.disable_device_change_key_rotation = True
        self._fallback_renewed: float | None = None

    @asynccontextmanager
    async def olm_transaction(self) -> AsyncIterator[None]:
        """One transaction over Olm sessions, alone. If it fails, memory forgets what the store has not kept."""
        async with self._olm_lock:
            transaction: Any = self.crypto_store.transaction()
            try:
                async with transaction:
                    yield
            except Exception:
                self.crypto_store._olm_cache.clear()  # noqa: SLF001
                self.crypto_store._account = None  # noqa: SLF001
                await self.load()
                raise

    async def open_olm_sessions(self, devices: Sequence[DeviceIdentity]) -> None:
        """Have an Olm session with each of these devices that has one already, or offers a one-time key."""
        wanted: dict[UserID, dict[DeviceID, DeviceIdentity]] = defaultdict(dict)
        for device in devices:
            wanted[device.user_id][device.device_id] = device
        try:
            await self._create_outbound_sessions(dict(wanted))
        except StoreUnavailableError:
            # mautrix remembers a session before it stores it, and would never ask for that device's key again.
            async with self._olm_lock:
                self.crypto_store._olm_cache.clear()  # noqa: SLF001
            raise
        except (MatrixRequestError, MatrixConnectionError, OSError):
            raise
        except Exception:  # noqa: BLE001 - whatever a device has published
            # One device's key that is none, or is lacking, must not keep the others from theirs.
            if len(devices) == 1:
                log.warning("no_one_time_key", user=devices[0].user_id, device=devices[0].device_id)
                return
            for device in devices:
                await self.open_olm_sessions([device])

    async def receive(self, event: ToDeviceEvent) -> None:
        """Take a room key from the device that made it. Nothing else that is sent to the bot's device matters."""
        # A session's ratchet never advances without the room key that it carried.
        async with self.olm_transaction():
            decrypted = await self._decrypt_olm_event(event)
            if decrypted.type != EventType.ROOM_KEY:
                return
            key: Any = decrypted.content
            # Who has been given somebody's key could else put their own name to it.
            if not await self.crypto_store.has_group_session(key.room_id, key.session_id):
                await self._receive_room_key(decrypted)

    async def fetch_devices(self, users: Iterable[UserID]) -> None:
        """Fetch these users' devices and identities, and keep track of them from now on."""
        async with self._fetch_keys_lock:
            await self._fetch_keys(list(users), include_untracked=True)

    async def lose_track(self, users: Iterable[UserID]) -> None:
        """Nobody tells of these users' devices any more: they are fetched anew before their next use."""
        for user in users:
            await self.crypto_store.db.execute("DELETE FROM crypto_tracked_user WHERE user_id=$1", user)

    async def fetch_own_keys(self) -> None:
        """Fetch the bot's own identity and signatures, which mautrix would not store by itself."""
        self._cross_signing_public_keys_fetched = False
        self._cross_signing_public_keys = None
        self._cs_fetch_attempted.discard(self.client.mxid)
        await self.fetch_devices([self.client.mxid])

    async def publish_identity(self, recovery_key: RecoveryKey, seeds: CrossSigningSeeds) -> None:
        """Publish an identity whose private keys are stored under the recovery key, and sign the own device."""
        await self.ssss.set_key_data(recovery_key.id, recovery_key.metadata)
        await self._upload_cross_signing_keys_to_ssss(recovery_key, seeds)
        await self.ssss.set_default_key_id(recovery_key.id)
        await self._publish_cross_signing_keys(seeds.to_keys())
        await self.sign_own_device(self.own_identity)

    async def renew_fallback_key(self) -> None:
        """Publish a fresh fallback key; the one before it stays valid for messages on their way."""
        renewed = self._fallback_renewed
        if renewed is not None and time.monotonic() < renewed + FALLBACK_REST_SECONDS:
            return
        async with self._share_keys_lock:
            self._fallback_renewed = time.monotonic()
            self.account.generate_fallback_key()
            await self.crypto_store.put_account(self.account)
            await self._upload({"fallback_keys": self._signed(self.account.fallback_key, fallback=True)})

    async def _process_fetched_keys(
        self, user_id: UserID, devices: dict[DeviceID, DeviceKeys], resp: QueryKeysResponse
    ) -> dict[DeviceID, DeviceIdentity]:
        try:
            return await super()._process_fetched_keys(user_id, devices, resp)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever they have published
            # One user's nonsense must not keep the others' devices from being known.
            log.warning("devices_unreadable", user=user_id, error=type(error).__name__)
            await self.crypto_store.put_devices(user_id, {})
            return {}

    async def resolve_trust(self, device: DeviceIdentity, allow_fetch: bool = True) -> TrustState:  # noqa: FBT001, FBT002
        """How far a device is trusted. mautrix would distrust one because the store was away for a moment."""
        return await self._try_resolve_trust(device, allow_fetch)

    async def _unwedge_session(self, sender: UserID, sender_key: IdentityKey) -> None:
        # mautrix starts this from within a store transaction; it must not inherit that transaction's connection.
        task = asyncio.create_task(
            super()._unwedge_session(sender, sender_key), context=contextvars.Context()
        )
        await task

    async def _share_keys(self, current_otk_count: int | None) -> None:
        if current_otk_count is None:
            current_otk_count = await self._upload({})
        wanted = self.account.max_one_time_keys // 2 - current_otk_count
        missing = wanted - len(self.account.one_time_keys.get("curve25519", {}))
        if missing > 0:
            self.account.generate_one_time_keys(missing)
        first = not self.account.shared
        if first:
            self.account.generate_fallback_key()
        # Kept before published: a key that is published twice is the same key, one that is lost wedges a session.
        await self.crypto_store.put_account(self.account)
        body: dict[str, Any] = {"one_time_keys": self._signed(self.account.one_time_keys)}
        if first:
            keys = self.account.get_device_keys(self.client.mxid, self.client.device_id)
            body["device_keys"] = keys.serialize()
            body["fallback_keys"] = self._signed(self.account.fallback_key, fallback=True)
        if not body["one_time_keys"] and not first:
            return
        await self._upload(body)
        self.account.shared = True
        self.account.mark_keys_as_published()
        self._last_key_share = time.monotonic()
        await self.crypto_store.put_account(self.account)

    async def _upload(self, body: dict[str, Any]) -> int:
        answer = await self.client.api.request(Method.POST, path("keys", "upload"), body)
        count: int = answer["one_time_key_counts"].get("signed_curve25519", 0)
        return count

    def _signed(self, keys: dict[str, dict[str, str]], *, fallback: bool = False) -> dict[str, Any]:
        mark: dict[str, Any] = {"fallback": True} if fallback else {}
        return {
            f"signed_curve25519:{key_id}": self._sign({"key": key, **mark})
            for key_id, key in keys.get("curve25519", {}).items()
        }

    def _sign(self, key: dict[str, Any]) -> dict[str, Any]:
        unsigned: Any = key
        signer = f"ed25519:{self.client.device_id}"
        signatures = {self.client.mxid: {signer: sign_olm(unsigned, self.account)}}
        return {**key, "signatures": signatures}
