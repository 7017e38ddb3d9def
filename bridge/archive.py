"""An encrypted archive of documents with a manifest: a ZIP file sealed under a passphrase.

AES-256-GCM under a key that scrypt (RFC 7914) makes of the passphrase; the salt stands before the ciphertext.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bridge.model.phi import Phi
from bridge.vault import Key, VaultError

MARK = b"nightbell archive 1\n"
SALT_BYTES = 16
CONTEXT = "archive"


def seal(documents: Mapping[str, Phi[bytes]], facts: Mapping[str, object], passphrase: str) -> bytes:
    """The archive's bytes. The manifest lists each document with its SHA-256."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, document in documents.items():
            archive.writestr(name, document.reveal())
        hashes = {name: hashlib.sha256(each.reveal()).hexdigest() for name, each in documents.items()}
        archive.writestr("manifest.json", json.dumps({**facts, "documents": hashes}, indent=1))
    salt = os.urandom(SALT_BYTES)
    return MARK + salt + _key(passphrase, salt).seal(Phi(packed.getvalue()), CONTEXT)


def unseal(sealed: bytes, passphrase: str) -> Phi[bytes]:
    """The ZIP file inside. Raises VaultError if the passphrase is another one, or the archive was changed."""
    if not sealed.startswith(MARK):
        raise VaultError("this is no archive that nightbell hold export has written")
    body = sealed.removeprefix(MARK)
    try:
        return _key(passphrase, body[:SALT_BYTES]).open(body[SALT_BYTES:], CONTEXT)
    except VaultError:
        message = "the archive does not open: the passphrase is another one, or the archive was changed"
        raise VaultError(message) from None


def _key(passphrase: str, salt: bytes) -> Key:
    derived = Scrypt(salt=salt, length=32, n=2**16, r=8, p=1).derive(passphrase.encode())
    return Key("the archive", derived)
