"""The cross-signing identity that a person's Element makes at login, and that matrix-nio does not know."""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Json = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """Three key pairs: the master key is who the user is; the others sign her devices, and other users."""

    master: Ed25519PrivateKey
    self_signing: Ed25519PrivateKey
    user_signing: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        return cls(*(Ed25519PrivateKey.generate() for _ in range(3)))

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(
            *(Ed25519PrivateKey.from_private_bytes(b64decode(key)) for key in json.loads(path.read_text()))
        )

    def save(self, path: Path) -> None:
        keys = (self.master, self.self_signing, self.user_signing)
        path.write_text(json.dumps([b64encode(key.private_bytes_raw()).decode() for key in keys]))

    def public_keys(self, user_id: str) -> Json:
        """The body of an upload of the identity (POST /keys/device_signing/upload)."""
        signed = (("self_signing", self.self_signing), ("user_signing", self.user_signing))
        return {
            "master_key": _public_key("master", self.master, user_id),
            **{
                f"{usage}_key": _sign(_public_key(usage, key, user_id), user_id, self.master)
                for usage, key in signed
            },
        }

    def sign_device(self, user_id: str, device_keys: Json) -> Json:
        """The device's keys as published, with the signature that makes it one of the user's own."""
        return _sign(device_keys, user_id, self.self_signing)


def canonical(value: Json) -> bytes:
    """What a Matrix signature is over."""
    bare = {key: value[key] for key in value.keys() - {"signatures", "unsigned"}}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _public_key(usage: str, key: Ed25519PrivateKey, user_id: str) -> Json:
    public = _public(key)
    return {"user_id": user_id, "usage": [usage], "keys": {f"ed25519:{public}": public}}


def _sign(value: Json, user_id: str, key: Ed25519PrivateKey) -> Json:
    signature = {f"ed25519:{_public(key)}": _unpadded(key.sign(canonical(value)))}
    others = value.get("signatures", {})
    return value | {"signatures": others | {user_id: others.get(user_id, {}) | signature}}


def _public(key: Ed25519PrivateKey) -> str:
    return _unpadded(key.public_key().public_bytes_raw())


def _unpadded(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")
