"""A door before the homeserver that remembers what goes through it, and can refuse requests and lose answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

# Of one connection, and not to be passed on (RFC 9110, section 7.6.1).
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length")


@dataclass(frozen=True)
class Passed:
    """A request, and what the homeserver answered; nothing before it has."""

    method: str
    path: str
    query: str
    body: bytes
    status: int | None = None
    answer: bytes = b""

    @property
    def is_send(self) -> bool:
        """Whether an event is sent into a room."""
        return self.method == "PUT" and "/send/" in self.path


@dataclass(frozen=True)
class Refusal:
    """What a request is answered with by the door itself; without a code, as a proxy answers that knows no Matrix."""

    status: int
    code: str = ""

    def response(self) -> web.Response:
        if self.code:
            return web.json_response({"errcode": self.code, "error": "refused"}, status=self.status)
        return web.Response(status=self.status, text="<html></html>", content_type="text/html")


async def _let_in(_request: Passed) -> Refusal | None:
    return None


async def _let_out(_request: Passed) -> bool:
    return True


class Proxy:
    """Listens on loopback while the ``async with`` lasts.

    `before` may refuse a request instead of letting it in. `after` is asked when the homeserver has
    answered; if it says False, the connection is cut and the answer is lost.
    """

    def __init__(self, target: str) -> None:
        self.passed: list[Passed] = []
        self.before: Callable[[Passed], Awaitable[Refusal | None]] = _let_in
        self.after: Callable[[Passed], Awaitable[bool]] = _let_out
        self.base_url = ""
        self._target = target
        self._session: aiohttp.ClientSession
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=120))
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    @property
    def sends(self) -> list[Passed]:
        """The requests that send an event into a room, in their order."""
        return [request for request in self.passed if request.is_send]

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        asked = Passed(request.method, path, query, body)
        refused = await self.before(asked)
        if refused is not None:
            return refused.response()
        try:
            async with self._session.request(
                request.method,
                URL(self._target + request.raw_path, encoded=True),
                data=body,
                headers=_passed_on(request.headers),
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            return self._cut(request)
        done = replace(asked, status=answer.status, answer=content)
        self.passed.append(done)
        if not await self.after(done):
            return self._cut(request)
        return web.Response(status=answer.status, body=content, headers=_passed_on(answer.headers))

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


def _passed_on(headers: "aiohttp.typedefs.LooseHeaders") -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in (*HOP_BY_HOP, "Host"):
        kept.popall(name, None)
    return kept
