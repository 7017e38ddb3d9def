"""The encryption machine: mautrix's, with what it lacks.

It keeps one-time keys before it publishes them, so that a crash can't leave the homeserver handing out keys
whose private half is lost; and it publishes a fallback key (Matrix spec, 'One-time and fallback keys'), so that
a device can always be reached. This and `encryption.py` are the only files that stand on mautrix's internals.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from mautrix.api import Method
from mautrix.client import Client
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.crypto.account import OlmAccount
from mautrix.crypto.cross_signing_key import CrossSigningSeeds
from mautrix.crypto.signature import sign_olm
from mautrix.crypto.ssss.key import Key as RecoveryKey
from mautrix.crypto.store import StateStore
from mautrix.types import EncryptionAlgorithm, IdentityKey, RoomEncryptionStateEventContent, RoomID, UserID

from bridge.matrix.homeserver import _SILENT, path


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

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """One transaction of the crypto store; whatever it is given within belongs to it."""
        transaction: Any = self.crypto_store.transaction()
        return cast("AbstractAsyncContextManager[None]", transaction)

    async def fetch_own_keys(self) -> None:
        """Fetch the bot's own identity and signatures, which mautrix would not store by itself."""
        self._cross_signing_public_keys_fetched = False
        self._cross_signing_public_keys = None
        self._cs_fetch_attempted.discard(self.client.mxid)
        async with self._fetch_keys_lock:
            await self._fetch_keys([self.client.mxid], include_untracked=True)

    async def publish_identity(self, recovery_key: RecoveryKey, seeds: CrossSigningSeeds) -> None:
        """Publish an identity whose private keys are stored under the recovery key, and sign the own device."""
        await self.ssss.set_key_data(recovery_key.id, recovery_key.metadata)
        await self._upload_cross_signing_keys_to_ssss(recovery_key, seeds)
        await self.ssss.set_default_key_id(recovery_key.id)
        await self._publish_cross_signing_keys(seeds.to_keys())
        await self.sign_own_device(self.own_identity)

    async def publish_fallback_key(self) -> None:
        """Publish a fresh fallback key; the one before it stays valid for messages on their way."""
        async with self._share_keys_lock:
            self.account.generate_fallback_key()
            await self.crypto_store.put_account(self.account)
            await self._upload({"fallback_keys": self._signed(self.account.fallback_key, fallback=True)})

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
