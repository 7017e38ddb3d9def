from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.app import own_words
from bridge.model import in_hand
from tests.channels.signers import utc_now
from tests.channels.wire import RememberingInbox


@pytest.fixture(autouse=True, scope="session")
def _own_words() -> None:
    """What doors may say at a refusal, as a bridge that starts learns it."""
    in_hand.learn(own_words())


@pytest.fixture
def inbox() -> RememberingInbox:
    return RememberingInbox()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A directory with mail.pem, a certificate for 127.0.0.1, and its key.pem."""
    return certified(tmp_path)


@pytest.fixture(scope="module")
def lasting_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a server that several tests ask."""
    return certified(tmp_path_factory.mktemp("certificate"))


def certified(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bridge.example")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    (directory / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    (directory / "mail.pem").write_bytes(made.public_bytes(pem))
    return directory
