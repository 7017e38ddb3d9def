"""Fetching recordings and pictures from where a provider keeps them: within bounds, and from nowhere inside.

No error says where: an address holds the provider's id of a message.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from bridge import __version__
from bridge.model.attachment import Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

MAX_MEDIA = 16 * 1024 * 1024  # bytes; a quarter of an hour of telephony is a third of it
FETCH_SECONDS = 60.0
PIECE = 64 * 1024


def is_public(address: str) -> bool:
    """Whether an address is one of the internet. What a provider names must not lead into the hospital's network."""
    return ip_address(address.partition("%")[0]).is_global


def basic_auth(user: str, secret: str) -> str:
    """The `Authorization` header of a user (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


async def fetch(url: str, auth: str | None = None, *, inside: bool = False) -> Fetched:
    """GET a file. Credentials go to no other host, wherever it redirects. `inside` allows any address.

    Raises MediaError.
    """
    async with _asked("GET", url, auth, inside=inside) as response:
        _require(response)
        content = bytearray()
        async for piece in response.content.iter_chunked(PIECE):
            content += piece
            if len(content) > MAX_MEDIA:
                message = f"it is larger than {MAX_MEDIA} bytes"
                raise MediaError(message, retry=False)
        return Fetched(
            Phi(bytes(content)), response.headers.get("Content-Type", "").partition(";")[0].lower()
        )


async def delete(url: str, auth: str | None = None, *, inside: bool = False) -> None:
    """DELETE a file. One that is not there any more is deleted. Raises MediaError."""
    async with _asked("DELETE", url, auth, inside=inside) as response:
        if response.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            _require(response)


async def _fetch_signed(attachment: Attachment) -> Fetched:
    assert attachment.place is not None  # noqa: S101 - or it would not be fetched
    url = attachment.place.reveal()
    if not url.startswith("https://"):
        raise MediaError("its address is not https", retry=False)
    return await fetch(url)


# For providers whose addresses need no credentials, since they can't be guessed and do not last.
OF_ITS_ADDRESS = MediaSource(_fetch_signed)


def named(document: Any) -> Attachment | None:
    """What a provider's JSON names by `url`; None if it is not to be understood, which must not cost the message."""
    if not isinstance(document, dict) or not isinstance(document.get("url"), str) or not document["url"]:
        return None
    kind, name = document.get("content_type"), document.get("name")
    return Attachment(
        kind.lower() if isinstance(kind, str) else "",
        name=Phi(name) if isinstance(name, str) and name else None,
        place=Phi(document["url"]),
    )


@asynccontextmanager
async def _asked(method: str, url: str, auth: str | None, *, inside: bool) -> AsyncIterator[ClientResponse]:
    connector = TCPConnector() if inside else TCPConnector(socket_factory=_public_socket)
    try:
        async with (
            ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=FETCH_SECONDS),
                headers={"User-Agent": f"nightbell/{__version__}"}
                | ({"Authorization": auth} if auth else {}),
            ) as session,
            session.request(method, url, max_redirects=5) as response,
        ):
            yield response
    except TimeoutError:
        message = f"its source did not give it within {FETCH_SECONDS:g} seconds"
        raise MediaError(message, retry=True) from None
    except (ClientError, OSError, ValueError) as error:
        message = f"its source can't be reached ({type(error).__name__})"
        raise MediaError(message, retry=True) from None


def _require(response: ClientResponse) -> None:
    if response.status >= HTTPStatus.BAD_REQUEST:
        message = f"its source answers {response.status}"
        raise MediaError(message, retry=response.status != HTTPStatus.GONE)


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, (host, *_rest) = address
    if not is_public(host):
        raise OSError("an address inside")
    return socket.socket(family, kind, protocol)
