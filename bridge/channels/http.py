"""The one HTTP server: every HTTP channel, `/health`, and `/metrics` on a door of its own.

What all channels share is bounded here, once: the size of a body, the time to send it, idle and open
connections, and how often a source may come. Every error is JSON, `{"error": ..., "message": ...}`, and no part of
a request is logged or repeated in one.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from bridge.channels.channel import Answer, Channel, Handler, Request, Tap, refusal
from bridge.channels.crowd import Crowd, source_of, turn_away
from bridge.channels.meters import Meters
from bridge.channels.rate import Rate
from bridge.channels.settings import is_peer
from bridge.model import in_hand
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

MAX_BODY = 64 * 1024  # bytes; the longest text of any source is a tenth of it
BODY_SECONDS = 10.0  # for all of a body
SILENT_SECONDS = 10.0  # from connecting to a first whole request
IDLE_SECONDS = 180.0  # longer than proxies keep a connection, or they send an event into one that closes
LINGER_SECONDS = 1.0  # for a sender to read a refusal before the rest of its body meets a closed connection
DRAIN_SECONDS = 10.0  # for requests that are being answered at shutdown
MAX_CONNECTIONS = 512
MAX_OF_ONE = 128  # connections from one address that is no proxy
PER_MINUTE = 12_000  # requests to a channel from one address
MAX_FRAMES = 20  # of a failure, in the log
RETRY_AFTER = "5"  # seconds; a database is back, or a crowd gone, about then

log = structlog.get_logger(__name__)

Networks = Sequence[IPv4Network | IPv6Network]
_HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Health:
    """How the bridge is. `ready` means that it can take events; `parts` says more, in words without PHI."""

    ready: bool
    parts: Mapping[str, str]


_METERS = web.AppKey("meters", Meters)
_PROXIES = web.AppKey[Networks]("proxies")


def build_application(
    channels: Iterable[Channel],
    *,
    health: Callable[[], Awaitable[Health]],
    meters: Meters,
    tap: Tap = lambda _, __, ___: None,
    proxies: Networks = (),
    per_minute: int = PER_MINUTE,
    max_body: int = MAX_BODY,
    body_seconds: float = BODY_SECONDS,
) -> web.Application:
    """What the world may see: the channels and the bridge's health.

    `per_minute` bounds the requests to one channel from one address. Of a request of `proxies` that address is the one
    that they name in X-Forwarded-For.
    """
    app = web.Application(client_max_size=max_body)
    app[_METERS] = meters
    app[_PROXIES] = proxies

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        found = await health()
        document = {"status": "ready" if found.ready else "not ready", "parts": dict(found.parts)}
        status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response(document, status=status)

    app.router.add_get("/health/live", live)
    app.router.add_get("/health", ready)
    for channel in channels:
        rate = Rate(per_minute)
        for route in channel.routes:
            handle = _observed(channel.id, route.handle, meters, rate, tap, body_seconds)
            app.router.add_route(route.method, route.path, handle)
    return app


def build_metrics_application(registry: CollectorRegistry) -> web.Application:
    """What only the operator may see: `/metrics`, for Prometheus.

    A sample whose labels say what neither the configuration nor Nightbell says is withheld.
    """
    public = CollectorRegistry()
    public.register(_Public(registry))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(public), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


@dataclass(frozen=True, slots=True)
class _Public(Collector):
    """What of a registry may be read."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            said = [
                sample
                for sample in metric.samples
                if in_hand.is_public(*(value for name, value in sample.labels.items() if name != "le"))
            ]
            if len(said) < len(metric.samples):
                log.error("samples_withheld", metric=metric.name, samples=len(metric.samples) - len(said))
            metric.samples = said
            yield metric


@asynccontextmanager
async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    max_connections: int = MAX_CONNECTIONS,
    max_of_one: int = MAX_OF_ONE,
    silent_seconds: float = SILENT_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    drain_seconds: float = DRAIN_SECONDS,
) -> AsyncIterator[int]:
    """Serve an application while the context lasts; yields the port, which port 0 leaves to the system.

    Leaving stops listening at once, and lets requests that have arrived be answered for `drain_seconds`.
    Raises `OSError` if the address can't be listened on.
    """
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, shutdown_timeout=drain_seconds)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner has been set up and has no server")

    door = _Door(
        Crowd(max_connections, max_of_one),
        app.get(_PROXIES, ()),
        app[_METERS].turned_away.inc if _METERS in app else lambda: None,
        silent_seconds,
    )

    def connection() -> asyncio.Protocol:
        return _Connection(
            door,
            server,
            loop=loop,
            access_log=None,  # off
            keepalive_timeout=idle_seconds,
            lingering_time=LINGER_SECONDS,
            # Signatures are over what was sent, and a bomb stays small.
            auto_decompress=False,
        )

    try:
        listener = await loop.create_server(connection, host, port)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _observed(  # noqa: PLR0917 - what the server has, in its order
    channel: ChannelId, handle: Handler, meters: Meters, rate: Rate, tap: Tap, body_seconds: float
) -> _HttpHandler:
    async def respond(request: web.Request) -> web.Response:
        with in_hand.hold():
            return await respond_in_hand(request)

    async def respond_in_hand(request: web.Request) -> web.Response:
        began = time.monotonic()
        peer = came_from(
            request.remote or "", request.headers.getall("X-Forwarded-For", ()), request.app[_PROXIES]
        )
        if wait := rate.wait(source_of(peer)):
            given = refusal(429, "too_many_requests", "Send it again after the time in Retry-After.")
        else:
            given = await _answer(channel, handle, request, peer, tap, body_seconds)
            refused = given.refused or given.status >= HTTPStatus.BAD_REQUEST
            if refused and in_hand.reveals(given.body):
                log.error("answer_withheld", channel=channel, status=given.status)
                given = replace(given, body=_WITHHELD, content_type="text/plain")
        seconds = time.monotonic() - began
        meters.count(channel, given.outcome)
        meters.seconds.labels(channel).observe(seconds)
        log.info(
            "request_answered",
            channel=channel,
            outcome=given.outcome,
            status=given.status,
            milliseconds=round(seconds * 1000, 1),
        )
        tap(channel, ">", Phi(f"{given.status}\n\n{given.body}".encode()))
        response = _response(given)
        if wait:
            response.headers["Retry-After"] = str(math.ceil(wait))
        return response

    return respond


def came_from(peer: str, forwarded: Iterable[str], proxies: Networks) -> str:
    """The address that a request came from: of those that X-Forwarded-For names the last that is no proxy's.

    Whoever is not among the proxies may write there what they like, and is not believed.
    """
    for written in reversed(",".join(forwarded).split(",")):
        if not is_peer(peer, proxies) or (address := _address(written)) is None:
            break
        peer = address
    return peer


def _address(written: str) -> str | None:
    """An address as proxies write it: `10.1.2.3`, `2001:db8::1`, either of them with a port."""
    text = written.strip()
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    try:
        return str(ip_address(urlsplit(f"//{text}").hostname or ""))
    except ValueError:
        return None


async def _answer(  # noqa: PLR0917 - what the server has, in its order
    channel: ChannelId, handle: Handler, request: web.Request, peer: str, tap: Tap, body_seconds: float
) -> Answer:
    body = await _read(request, body_seconds)
    if isinstance(body, Answer):
        return body
    tap(channel, "<", _as_sent(request, body))
    in_hand.add(request.raw_path.encode(errors="replace"))
    in_hand.add(body.reveal())
    try:
        return await handle(Request(request.raw_path, request.headers, body, peer))
    except StoreUnavailableError:
        return refusal(503, "store_unavailable", "The event could not be kept; send it again.")
    except Exception as error:  # noqa: BLE001 - a source gets an answer whatever happens
        _note_failure(error, channel=channel)
        return _FAILED


def _as_sent(request: web.Request, body: Phi[bytes]) -> Phi[bytes]:
    lines = [f"{request.method} {request.raw_path}".encode(errors="surrogateescape")]
    lines += [name + b": " + value for name, value in request.raw_headers]
    return Phi(b"\n".join([*lines, b"", body.reveal()]))


async def _read(request: web.Request, seconds: float) -> Phi[bytes] | Answer:
    """The whole body, or why it is not read. Raises `ConnectionError` when the sender has gone."""
    limit = request.client_max_size
    too_large = refusal(413, "body_too_large", f"Send at most {limit} bytes.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return refusal(415, "compressed_body", "Send the body without Content-Encoding.")
    if (request.content_length or 0) > limit:
        return too_large
    try:
        async with asyncio.timeout(seconds):
            return Phi(await request.read())
    except web.HTTPRequestEntityTooLarge:
        return too_large
    except TimeoutError:
        return refusal(408, "body_too_slow", f"Send the whole body within {seconds:g} seconds.")
    except web.RequestPayloadError:
        return _MALFORMED


def _response(given: Answer) -> web.Response:
    response = web.Response(text=given.body, status=given.status, content_type=given.content_type)
    if given.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def _note_failure(error: BaseException | None, **where: str) -> None:
    """Log where it failed, and not the error's own text, which may hold a piece of the request."""
    frames = traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES) if error else []
    at = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    log.error("request_failed", error=type(error).__name__, at=at, **where)


_WITHHELD = "The bridge's answer repeated what was sent, and is withheld."
_MALFORMED = refusal(400, "malformed_http", "This is not a well-formed HTTP request.")
_FAILED = refusal(500, "internal_error", "The bridge failed at this request; its log says where.")
_FULL = refusal(503, "too_many_connections", "The bridge is crowded; try again.")
_SILENT = refusal(408, "request_too_slow", "Send the whole head of a request sooner.")
# What a request may be told before it finds a channel.
_UNROUTED = {
    404: refusal(404, "not_found", "No channel listens here: check the path against the configuration."),
    405: refusal(405, "method_not_allowed", "Use the method that the Allow header names."),
    417: refusal(417, "expectation_failed", "Send no Expect header other than 100-continue."),
}


@dataclass(frozen=True, slots=True)
class _Door:
    """What all connections share."""

    crowd: Crowd
    proxies: Networks
    turned_away: Callable[[], None]
    silent_seconds: float


class _Connection(web.RequestHandler):
    """A connection that answers in JSON what no channel sees; aiohttp alone would quote the request."""

    __slots__ = ("_began", "_door", "_peer", "_silence")

    def __init__(self, door: _Door, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._door = door
        self._began = self._loop.time()
        self._silence: asyncio.TimerHandle | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._door.crowd.admit(self):
            self._door.turned_away()
            turn_away(transport, _last_words(_FULL))
            return
        self._silence = self._loop.call_later(self._door.silent_seconds, self._close_if_silent)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.crowd.leave(self)
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    @property
    def source(self) -> str | None:
        """Whom it counts for; None for a proxy that brings nobody's request."""
        now, proxies = self._current_request, self._door.proxies
        if now is not None:
            return source_of(came_from(self._peer, now.headers.getall("X-Forwarded-For", ()), proxies))
        return None if is_peer(self._peer, proxies) else source_of(self._peer)

    @property
    def since(self) -> float | None:
        """From when it keeps the door waiting, be it for a request or for the rest of one."""
        now = self._current_request
        return self._began if now is None or not now.content.is_eof() else None

    def make_room(self) -> None:
        self._door.turned_away()
        self._end_with(_FULL)

    def _close_if_silent(self) -> None:
        if self._request_count == 0:
            self._end_with(_SILENT)

    def _end_with(self, answer: Answer) -> None:
        # One that was answered before has asked nothing since, as far as can be seen.
        if self.transport is not None and (self._request_count == 0 or self._current_request is not None):
            self.transport.write(_last_words(answer))
        self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            allowed = resp.headers.get("Allow")
            resp = _response(_UNROUTED.get(resp.status, _MALFORMED))
            if allowed:
                resp.headers["Allow"] = allowed
        finished = await super().finish_response(request, resp, start_time)
        self._began = self._loop.time()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - of aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - likewise
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc  # the sender has gone: aiohttp ends the connection
        malformed = status == HTTPStatus.BAD_REQUEST
        if not malformed:
            _note_failure(exc)
        response = _response(_MALFORMED if malformed else _FAILED)
        response.force_close()
        return response

    def log_exception(self, *_: Any, **kw: Any) -> None:
        _note_failure(kw.get("exc_info"))


def _last_words(answer: Answer) -> bytes:
    """An answer to what never became a request."""
    return (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"Retry-After: {RETRY_AFTER}\r\n"
        "Connection: close\r\n\r\n"
        f"{answer.body}"
    ).encode()
