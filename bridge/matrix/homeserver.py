"""Requests to the homeserver as the bot's device, with the appservice's token (MSC4326)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from mautrix.api import HTTPAPI, Method
from mautrix.errors import MatrixConnectionError, MatrixRequestError
from mautrix.types import DeviceID, UserID

from bridge import __version__
from bridge.matrix import budget
from bridge.matrix.client import TolerantClient
from bridge.model.errors import HomeserverError
from bridge.model.ids import UserId

LONG_POLL_SECONDS = 30
# What a homeserver, or a proxy before it, says of itself and not of the request: somebody will put it right, and a
# message that was given up meanwhile would be lost.
PASSING = (
    "M_LIMIT_EXCEEDED",
    "M_UNKNOWN_TOKEN",
    "M_MISSING_TOKEN",
    "M_UNRECOGNIZED",
    "M_USER_DEACTIVATED",
    "",
)

# mautrix writes request bodies at DEBUG: its log is not for any file, whatever level is configured.
_SILENT = logging.getLogger("mau.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL + 1)


class GuardedApi(HTTPAPI):
    """mautrix's requests and ours, each past the guard of the plaintext budget."""

    async def request(self, *arguments: Any, **options: Any) -> Any:
        """Make a request. Raises PlaintextRefusedError before anything that could be read is sent."""
        given = dict(zip(("method", "path", "content"), arguments, strict=False)) | options
        budget.check(str(given["method"]), str(given["path"]), given.get("content"))
        return await super().request(*arguments, **options)


@dataclass(frozen=True, slots=True)
class Homeserver:
    """The two connections to the homeserver: one for requests, one whose answers may take a long poll."""

    bot: UserId
    client: TolerantClient
    sync_api: HTTPAPI

    @property
    def device(self) -> str:
        """The bot's device id; empty until it has been made."""
        return str(self.client.device_id or "")

    def become(self, device: str) -> None:
        """Act as this device from now on, as MSC4326 has it."""
        self.client.device_id = DeviceID(device)
        for api in (self.client.api, self.sync_api):
            api.as_device_id = DeviceID(device)

    async def request(
        self,
        method: Method,
        path: str,
        content: Mapping[str, Any] | str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Make one request. Raises HomeserverError; its message names the path and the error code, no content."""
        async with errors_of(f"{method} {path}"):
            body: Any = content
            return await self.client.api.request(method, path, body, query_params=dict(query or {}))

    async def sync(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One long poll of `/sync` (Matrix spec, client-server API, 'Syncing')."""
        async with errors_of("GET /sync"):
            answer: dict[str, Any] = await self.sync_api.request(
                Method.GET, "_matrix/client/v3/sync", query_params=dict(query)
            )
            return answer


@asynccontextmanager
async def errors_of(what: str) -> AsyncIterator[None]:
    """Turn the library's errors into HomeserverError, which says whether trying again can help."""
    try:
        yield
    except MatrixRequestError as error:
        code = getattr(error, "errcode", None) or ""
        too_large = error.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        retry = error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR or (code in PASSING and not too_large)
        message = f"{what}: the homeserver answers {error.http_status} {code}".rstrip()
        raise HomeserverError(message, retry=retry, code=code) from None
    except (MatrixConnectionError, JSONDecodeError, TimeoutError, OSError) as error:
        message = f"{what}: the homeserver does not answer ({type(error).__name__}); is it running?"
        raise HomeserverError(message, retry=True) from None


@asynccontextmanager
async def connect(
    url: str, as_token: str, bot: UserId, *, timeout: float, concurrency: int
) -> AsyncIterator[Homeserver]:
    """Open the connections; nothing is sent yet. `timeout` is for one request, in seconds."""
    agent = {"User-Agent": f"nightbell/{__version__}"}
    connector = TCPConnector(limit=concurrency)
    async with (
        ClientSession(timeout=ClientTimeout(total=timeout), headers=agent, connector=connector) as session,
        ClientSession(
            timeout=ClientTimeout(total=timeout + LONG_POLL_SECONDS), headers=agent
        ) as sync_session,
    ):

        def api(of: ClientSession) -> HTTPAPI:
            return GuardedApi(url, as_token, client_session=of, log=_SILENT, as_user_id=UserID(bot))  # type: ignore[arg-type]

        client = TolerantClient(UserID(bot), api=api(session), log=_SILENT)
        yield Homeserver(bot, client, api(sync_session))


def path(*segments: str) -> str:
    """A path of the client-server API, every segment escaped."""
    return "_matrix/client/v3/" + "/".join(quote(segment, safe="") for segment in segments)
