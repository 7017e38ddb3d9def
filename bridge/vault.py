"""Encryption at rest: a data key per page, under a key per retention class and day, under the operator's key.

Destroying the middle key makes a day of one class unreadable at once, in every copy of the database, since
nothing but these three layers ever held the keys. The operator's key never lies beside the database.
AES-256-GCM throughout (NIST SP 800-38D); subkeys by HKDF-SHA256 (RFC 5869).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridge.model.errors import NightbellError
from bridge.model.phi import Phi

KEY_BYTES = 32
NONCE_BYTES = 12
PROOF = b"nightbell operator key"


class VaultError(NightbellError):
    """A key is missing, wrong or destroyed, or a sealed value was changed."""


class KeyDestroyedError(VaultError):
    """The key of this content was destroyed, as its retention class says. The content is gone."""


def generate_operator_key() -> str:
    """A fresh operator key: 32 random bytes as base64, for a file or a secret store."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def parse_operator_key(text: str) -> bytes:
    """Read a key that `generate_operator_key` made. Raises VaultError without echoing it."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        message = "the operator key must be 32 bytes in base64; make one with: nightbell keygen"
        raise VaultError(message)
    return key


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An AES-256 key in memory. It has no printable form."""

    id: str
    _secret: bytes = field(repr=False)

    def seal(self, value: Phi[bytes], context: str) -> bytes:
        """Encrypt. `context` says what the value is and where it belongs; only the same one opens it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self._secret).encrypt(nonce, value.reveal(), context.encode())

    def open(self, sealed: bytes, context: str) -> Phi[bytes]:
        """Decrypt. Raises VaultError if the key or context is another one, or the value was changed."""
        try:
            return Phi(
                AESGCM(self._secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context.encode())
            )
        except (InvalidTag, ValueError):  # the library has an own error for what is cut too short
            message = f"a sealed value of {self.id} does not open; the row or its key was changed"
            raise VaultError(message) from None

    def wrap(self, key: Key) -> bytes:
        """Encrypt another key under this one."""
        return self.seal(Phi(key._secret), f"key {key.id}")

    def unwrap(self, key_id: str, wrapped: bytes) -> Key:
        """Decrypt a key that `wrap` encrypted. Raises VaultError if it was another key."""
        return Key(key_id, self.open(wrapped, f"key {key_id}").reveal())

    def __repr__(self) -> str:
        return f"Key({self.id})"


def new_key(key_id: str) -> Key:
    """A fresh random key."""
    return Key(key_id, os.urandom(KEY_BYTES))


class Vault:
    """What is derived from the operator's key: the root that wraps day keys, a lookup key, the pickle key."""

    def __init__(self, operator_key: bytes) -> None:
        self._operator_key = operator_key
        self.root = Key(self._derive("key id")[:8].hex(), self._derive("wrap"))
        self._lookup_key = self._derive("lookup")

    def lookup(self, kind: str, value: Phi[str]) -> bytes:
        """A keyed fingerprint (HMAC-SHA256) by which a value can be found again but not read."""
        return hmac.digest(self._lookup_key, f"{kind}\0{value.reveal()}".encode(), hashlib.sha256)

    def prove(self) -> bytes:
        """A sealed constant; `verify` tells with it whether a database was written under this key."""
        return self.root.seal(Phi(PROOF), "proof")

    def verify(self, proof: bytes) -> None:
        """Raise VaultError unless `proof` was made by this operator key."""
        self.root.open(proof, "proof")

    def pickle_key(self) -> str:
        """The passphrase of the crypto store's pickles."""
        return base64.b64encode(self._derive("crypto store")).decode()

    def _derive(self, purpose: str) -> bytes:
        info = f"nightbell/1/{purpose}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._operator_key)
