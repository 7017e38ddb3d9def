"""The call center's side of the wire: requests signed as the providers sign them."""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

TIMEOUT = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True)
class Answer:
    """What the bridge answered to its source."""

    status: int
    body: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 -- HTTP's own numbers


@dataclass(frozen=True)
class Sms:
    """A patient's text as Twilio reports it."""

    body: str
    sender: str = "+15550001111"
    to: str = "+15554567890"
    sid: str = ""
    """Twilio's id of the message; a new one where it is left out. The same again is a retry."""

    def form(self) -> dict[str, str]:
        sid = self.sid or f"SM{secrets.token_hex(16)}"
        return {
            "ToCountry": "US",
            "SmsMessageSid": sid,
            "NumMedia": "0",
            "From": self.sender,
            "To": self.to,
            "Body": self.body,
            "SmsSid": sid,
            "MessageSid": sid,
            "AccountSid": f"AC{'b' * 32}",
            "NumSegments": "1",
            "SmsStatus": "received",
            "ApiVersion": "2010-04-01",
        }


async def send_sms(
    session: aiohttp.ClientSession,
    url: str,
    sms: Sms,
    *,
    auth_token: str,
    public_url: str | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Answer:
    """Post the text with Twilio's signature over the url that the provider was given."""
    form = sms.form() | dict(overrides or {})
    signature = RequestValidator(auth_token).compute_signature(public_url or url, form)
    return await _post(session, url, data=form, headers={"X-Twilio-Signature": signature})


async def send_event(
    session: aiohttp.ClientSession,
    url: str,
    event: Mapping[str, Any],
    *,
    secret: str,
    webhook_id: str | None = None,
) -> Answer:
    """Post a JSON event, signed per Standard Webhooks with a ``whsec_...`` secret."""
    body = json.dumps(event, ensure_ascii=False)
    identity = webhook_id or f"msg_{secrets.token_hex(12)}"
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, now, body),
    }
    return await _post(session, url, data=body.encode(), headers=headers)


async def until_accepted(send: Callable[[], Awaitable[Answer]], *, timeout: float = 60) -> Answer:
    """Send again until a 2xx, as a provider that retries would while the bridge is dead or coming up.

    The caller fixes the id (``Sms.sid``, ``webhook_id``), so that every try is the same event.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = await send()
        except (aiohttp.ClientError, TimeoutError) as error:
            last = error
        else:
            if answer.accepted:
                return answer
            last = answer
        await asyncio.sleep(0.05)
    message = f"not accepted within {timeout} s: {last}"
    raise TimeoutError(message)


async def _post(
    session: aiohttp.ClientSession, url: str, *, data: Mapping[str, str] | bytes, headers: Mapping[str, str]
) -> Answer:
    async with session.post(url, data=data, headers=headers, timeout=TIMEOUT) as response:
        return Answer(response.status, await response.text())
