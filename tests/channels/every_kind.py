"""A channel of every kind, for a bridge that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.channels import CHANNEL_TYPES
from testbed.process import free_port
from tests.channels.signers import TELNYX_PUBLIC_KEY


def every_kind(directory: Path, exchange_port: int) -> dict[str, dict[str, Any]]:
    """The sections, each by its type and `-door`. Their secrets are those of `tests.channels.wire.SECRETS`."""
    listens = {"peers": "127.0.0.1"}
    kinds: dict[str, dict[str, Any]] = {
        "asterisk": {
            "host": "127.0.0.1",
            "port": exchange_port,
            "username": "bridge",
            "secret": "env:TEST_AMI_SECRET",
            "spool": str(directory / "spool"),
        },
        "kannel": {"secrets": "env:TEST_KANNEL_SECRET"},
        "plivo": {"auth_token": "env:TEST_AUTH_TOKEN"},
        "smtp": {**listens, "port": free_port(), "domains": "pager.example", "require_tls": False},
        "snpp": {**listens, "port": free_port()},
        "telnyx": {"public_keys": TELNYX_PUBLIC_KEY, "test_key": "env:TEST_TELNYX_KEY"},
        "twilio": {"auth_token": "env:TEST_AUTH_TOKEN"},
        "vonage": {"secrets": "env:TEST_VONAGE_SECRET"},
        "wctp": {"senders": {"desk": "env:TEST_WCTP_CODE"}},
        "webhook": {"secrets": "env:TEST_WEBHOOK_SECRET"},
    }
    assert set(kinds) == set(CHANNEL_TYPES)
    return {f"{kind}-door": {"type": kind, **section} for kind, section in kinds.items()}
