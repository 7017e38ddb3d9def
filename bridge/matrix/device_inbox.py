"""Gives the encryption machine what syncs brought, in order, and tells of identities that have changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import operations
from bridge.ledger import Action, Record
from bridge.matrix.audience import ChangedIdentity
from bridge.matrix.encryption import Encryption
from bridge.store import identities, ledger, matrix_inbox
from bridge.store.database import Database
from bridge.store.keys import KeyRing

BATCH = 100

log = structlog.get_logger(__name__)


class DeviceInbox:
    """Takes each stored device message once; one that fails for want of the homeserver is taken again."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        encryption: Encryption,
        *,
        now: Callable[[], datetime],
        keys_came: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._keys = keys
        self._encryption = encryption
        self._now = now
        self._keys_came = keys_came

    async def step(self) -> float | None:
        """Handle what waits. Raises HomeserverError, and then nothing of it is lost."""
        async with self._database.read() as connection:
            waiting = await matrix_inbox.waiting_device_messages(connection, BATCH)
        for message in waiting:
            changed = await self._encryption.handle(message)
            async with self._database.write() as connection:
                for identity in changed:
                    await self._report(connection, identity)
                await matrix_inbox.drop_device_message(connection, message.seq)
        if waiting:
            await self._keys_came()
        return 0 if len(waiting) == BATCH else None

    async def _report(self, connection: AsyncConnection, identity: ChangedIdentity) -> None:
        now = self._now()
        if not await identities.report_once(connection, identity.user, identity.master_key, now):
            return
        log.warning("identity_changed", user=identity.user)
        text = (
            f"⚠️ {identity.user} has a new encryption identity. Nothing is sent to their devices until somebody "
            f"has asked them in person whether they reset it. If they did, write here: approve {identity.user}"
        )
        await operations.tell(connection, self._keys, text, now)
        objects = {"user": identity.user, "key": identity.master_key}
        await ledger.append(connection, [Record(Action.IDENTITY_CHANGED, objects=objects)], now)
