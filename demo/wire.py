"""The call center's requests, taken down as they go over the wire."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

from testbed.callcenter import Answer


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    answer: Answer
    began: float
    """On time.monotonic(), as the moments at which a client reads are."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Told:
    """What an exchange has said of a call, over a connection that it keeps open."""

    events: str
    began: float


async def exchange(send: Callable[[aiohttp.ClientSession], Awaitable[Answer]]) -> Exchange:
    """Let the call center send its request, and give back what was really sent."""
    lines: list[str] = []
    headers: dict[str, str] = {}
    body = bytearray()

    async def on_headers(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        sent: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        lines.append(f"{sent.method} {sent.url.raw_path_qs}")
        headers.update(sent.headers)

    async def on_chunk(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, sent: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        body.extend(sent.chunk)

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(on_headers)
    trace.on_request_chunk_sent.append(on_chunk)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        began = time.monotonic()
        answer = await send(session)
        return Exchange(lines[-1], headers, bytes(body), answer, began, time.monotonic() - began)
