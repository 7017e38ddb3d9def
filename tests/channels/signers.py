"""The sources' secrets, and how each signs: with its provider's own SDK where there is one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jwt
from nacl.signing import SigningKey
from plivo.utils import signature_v3 as plivo
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

PUBLIC_URL = "https://bridge.example"


AUTH_TOKEN = "12345678901234567890123456789012"


OLD_AUTH_TOKEN = "old-token-that-still-signs"


WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()


NEXT_WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"the secret that comes after it..").decode()


KANNEL_SECRET = "kannel-secret"


TELNYX_KEY = SigningKey(bytes(range(32)))


TELNYX_NEXT_KEY = SigningKey(bytes(32))


TELNYX_TEST_KEY = SigningKey(bytes(range(1, 33)))


TELNYX_PUBLIC_KEY = base64.b64encode(bytes(TELNYX_KEY.verify_key)).decode()


TELNYX_API_KEY = "KEY-telnyx-api-key"


VONAGE_SECRET = "signaturesecretsignaturesecret32"


NEXT_VONAGE_SECRET = "the signature secret that comes after it"


WCTP_CODE = "wctp-code"


AMI_SECRET = "amisecret"


def utc_now() -> datetime:
    return datetime.now(UTC)


def twilio_headers(
    form: Mapping[str, Any] | Sequence[tuple[str, str]],
    *,
    url: str = f"{PUBLIC_URL}/intake/door",
    token: str = AUTH_TOKEN,
) -> dict[str, str]:
    """The headers with which Twilio's own SDK would have signed a form."""
    signature = RequestValidator(token).compute_signature(url, form)
    return {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}


def plivo_headers(
    form: Mapping[str, Any],
    *,
    url: str = f"{PUBLIC_URL}/intake/door",
    token: str = AUTH_TOKEN,
    header: str = "X-Plivo-Signature-V3",
) -> dict[str, str]:
    """The headers with which Plivo's own SDK would have signed a form."""
    signed = plivo.construct_post_url(url, dict(form)).decode()
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Plivo-Signature-V3-Nonce": "12345678",
        header: plivo.get_signature_v3(token, signed, b"12345678").decode(),
    }


def telnyx_headers(body: str, *, at: datetime | None = None, key: SigningKey = TELNYX_KEY) -> dict[str, str]:
    """The headers with which Telnyx signs a body."""
    timestamp = str(int((at or utc_now()).timestamp()))
    signature = key.sign(f"{timestamp}|{body}".encode()).signature
    return {
        "Content-Type": "application/json",
        "telnyx-timestamp": timestamp,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }


def vonage_headers(
    body: str, *, at: datetime | None = None, secret: str = VONAGE_SECRET, **claims: Any
) -> dict[str, str]:
    """The headers with which Vonage signs a body in its Messages API."""
    made: dict[str, Any] = {
        "iat": int((at or utc_now()).timestamp()),
        "jti": "x",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body.encode()).hexdigest(),
        **claims,
    }
    token = jwt.encode(made, secret, algorithm="HS256")
    return {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}


def webhook_headers(
    body: str, *, key: str = "msg_1", at: datetime | None = None, secret: str = WEBHOOK_SECRET
) -> dict[str, str]:
    """The headers with which a Standard Webhooks library signs a body."""
    at = at or datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(key, at, body),
    }
