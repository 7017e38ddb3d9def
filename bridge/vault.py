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
from contextlib import suppress
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridge.model import in_hand
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
        """Decrypt, and take what it is in hand. Raises VaultError if key or context is another, or it was changed."""
        content = self._decrypted(sealed, context)
        in_hand.add(content.reveal())
        return content

    def _decrypted(self, sealed: bytes, context: str) -> Phi[bytes]:
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
        return Key(key_id, self._decrypted(wrapped, f"key {key_id}").reveal())

    def fingerprint(self, kind: str, value: Phi[str]) -> bytes:
        """A keyed fingerprint (HMAC-SHA256) by which a value can be found again but not read."""
        return hmac.digest(self._secret, f"{kind}\0{value.reveal()}".encode(), hashlib.sha256)

    def passphrase(self) -> str:
        """The key as a passphrase, for a library that encrypts by itself."""
        return base64.b64encode(self._secret).decode()

    def signer(self) -> Ed25519PrivateKey:
        """The signing key that this key is the seed of."""
        return Ed25519PrivateKey.from_private_bytes(self._secret)

    def __repr__(self) -> str:
        return f"Key({self.id})"


def new_key(key_id: str) -> Key:
    """A fresh random key."""
    return Key(key_id, os.urandom(KEY_BYTES))


def root_key(operator_key: bytes) -> Key:
    """The key that an operator's key stands for. Its id tells which one it is, and nothing more."""
    return Key(_derive(operator_key, "key id")[:8].hex(), _derive(operator_key, "wrap"))


class Vault:
    """The operator's keys: the configured one, and those before it. Which of them wraps is the database's to say."""

    def __init__(self, operator_key: bytes, *previous: bytes) -> None:
        self.root = root_key(operator_key)
        self._known = {key.id: key for key in (self.root, *map(root_key, previous))}

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys that are here, the configured one first."""
        return tuple(self._known)

    def known(self, root: str) -> Key:
        """The operator key of an id. Raises VaultError, saying what to do, if it is not here."""
        if root not in self._known:
            message = (
                f"operator key {root} is in force, and only {', '.join(self.ids)} known here; "
                "configure it, and run: nightbell reload"
            )
            raise VaultError(message)
        return self._known[root]

    def prove(self) -> bytes:
        """A sealed constant; `verify` tells with it whether a database was written under this key."""
        return self.root.seal(Phi(PROOF), "proof")

    def verify(self, root: str, proof: bytes) -> None:
        """Raise VaultError, saying what to configure, unless the operator key `root` is here and made `proof`."""
        if root not in self._known:
            message = (
                f"the database was sealed under operator key {root}, but the configured one is {self.root.id}; "
                "configure the key that belongs to this database, or, after a change of keys, both of them"
            )
            raise VaultError(message)
        self._known[root].open(proof, "proof")

    def unwrap(self, key_id: str, wrapped: bytes) -> Key:
        """Open a key that one of the configured operator keys wrapped. Raises VaultError."""
        for root in self._known.values():
            with suppress(VaultError):
                return root.unwrap(key_id, wrapped)
        message = f"no configured operator key opens {key_id}; after a change of keys configure both"
        raise VaultError(message)


def _derive(operator_key: bytes, purpose: str) -> bytes:
    info = f"nightbell/1/{purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(operator_key)
