"""mautrix's client, whose answers to key queries lack what can't be understood.

A member can publish anything as their device; taken whole, one such device would hide everybody else's.
"""

from __future__ import annotations

from typing import Any

import structlog
from mautrix.api import Method
from mautrix.client import Client
from mautrix.types import CrossSigningKeys, DeviceKeys, QueryKeysResponse

IDENTITY = ("master_keys", "self_signing_keys", "user_signing_keys")

log = structlog.get_logger(__name__)


class TolerantClient(Client):
    """A client that others' devices can't break."""

    async def query_keys(self, device_keys: Any, token: str = "", timeout: int = 10_000) -> QueryKeysResponse:
        """Fetch the devices and identities of users."""
        wanted = device_keys if isinstance(device_keys, dict) else {user: [] for user in device_keys}
        body = {"timeout": timeout, "device_keys": wanted, **({"token": token} if token else {})}
        answer = await self.api.request(Method.POST, "_matrix/client/v3/keys/query", body)
        return QueryKeysResponse(
            device_keys={
                user: _understood(DeviceKeys, devices) for user, devices in answer["device_keys"].items()
            },
            failures=answer.get("failures") or {},
            **{kind: _understood(CrossSigningKeys, answer.get(kind) or {}) for kind in IDENTITY},
        )


def _understood(kind: Any, documents: dict[str, Any]) -> Any:
    """What can be read of these documents, by the same keys."""
    understood = {}
    for key, document in documents.items():
        try:
            understood[key] = kind.deserialize(document)
        except Exception as error:  # noqa: BLE001 - it is all the sender's
            log.warning("keys_not_understood", of=key, error=type(error).__name__)
    return understood
