"""Texts to whoever wrote, by a provider's API: one request, and what its answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
)

from bridge import __version__
from bridge.model.errors import ReportError
from bridge.model.event import IntakeEvent

SEND_SECONDS = 15.0
_NUMBER = re.compile(r"\+?[0-9]{3,15}", re.ASCII)
# The provider did nothing, and says so.
_NOT_NOW = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def parties(event: IntakeEvent) -> tuple[str, str] | None:
    """To whom an answer goes and from which number; None if one is no number, such as a name in its place."""
    numbers = [each.reveal() if each is not None else "" for each in (event.caller, event.called)]
    to, sender = numbers
    return (to, sender) if all(map(_NUMBER.fullmatch, numbers)) else None


async def post(url: str, body: Mapping[str, str], headers: Mapping[str, str], *, repeats: bool) -> None:
    """Post a text. `repeats` says that posting it again would not send it twice.

    Raises ReportError, which names neither number nor words: what was answered may hold both.
    """
    headers = {**headers, "Accept": "application/json", "User-Agent": f"nightbell/{__version__}"}
    try:
        async with (
            ClientSession(cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=SEND_SECONDS)) as session,
            session.post(url, json=body, headers=headers, allow_redirects=False) as response,
        ):
            status = response.status
    except (ClientConnectorError, ConnectionTimeoutError) as error:
        why = f"it can't be reached ({type(error).__name__})"
        raise ReportError(why, retry=True) from None
    except (TimeoutError, ClientError, OSError) as error:
        why = f"it gave no answer ({type(error).__name__}){'' if repeats else _UNKNOWN}"
        raise ReportError(why, retry=repeats) from None
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if repeats and status == HTTPStatus.CONFLICT:
        raise ReportError("it is still busy with the one before", retry=True)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOT_NOW:
        raise ReportError(f"it answers {status}{'' if repeats else _UNKNOWN}", retry=repeats)
    raise ReportError(f"it answers {status}", retry=status in _NOT_NOW)


_UNKNOWN = ", and whether the text went out is not known"
