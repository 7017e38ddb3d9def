"""The server that all HTTP channels share: what it bounds, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from bridge.channels.channel import Answer, Channel, Handler, Request, Route
from bridge.channels.http import (
    MAX_BODY,
    MAX_CONNECTIONS,
    Health,
    build_metrics_application,
    came_from,
    serve,
)
from bridge.model import in_hand
from bridge.model.ids import ChannelId
from tests.channels.wire import Reply, running


async def count(request: Request) -> Answer:
    return Answer("counted", 200, str(len(request.body.reveal())), "text/plain")


async def crash(request: Request) -> Answer:
    raise ValueError(request.body.reveal())


def door(handle: Handler = count) -> Channel:
    return Channel(ChannelId("door"), "test", (Route("POST", "/intake/door", handle),))


async def exchange(port: int, sent: bytes) -> bytes:
    """Everything that comes back for some bytes, until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def parsed(raw: bytes) -> Reply:
    head, _, body = raw.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return Reply(int(status.split()[1]), dict(line.split(": ", 1) for line in headers), body)


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1024


async def test_a_body_of_the_greatest_size_is_taken() -> None:
    async with running(door()) as server:
        assert (await server.post(b"x" * MAX_BODY)).text == str(MAX_BODY)


async def test_a_greater_body_is_refused() -> None:
    async with running(door()) as server:
        reply = await server.post(b"x" * (MAX_BODY + 1))
        assert (reply.status, reply.json["error"]) == (413, "body_too_large")
        assert reply.json["message"] == f"Send at most {MAX_BODY} bytes."


async def test_a_body_that_is_announced_as_greater_is_refused_unread() -> None:
    async with running(door(), drain_seconds=0.05) as server:
        head = b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head)
        assert b"413" in await reader.readline()
        writer.close()


async def test_a_greater_body_without_a_length_is_refused() -> None:
    async with running(door(), app={"max_body": 4096}) as server:
        reply = await server.request("POST", "/intake/door", data=chunks(64))
        assert (reply.status, reply.json["error"]) == (413, "body_too_large")


async def test_an_endless_body_is_refused_while_it_is_still_being_sent() -> None:
    async with running(door(), app={"max_body": 4096}, drain_seconds=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /intake/door HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write((b"400\r\n" + b"x" * 1024 + b"\r\n") * 8)
        assert b"413" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_a_body_that_comes_too_slowly_is_refused() -> None:
    async with running(door(), app={"body_seconds": 0.05}, drain_seconds=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nslow")
        assert b"408" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /intake/d", b"POST /intake/door HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_never_sends_a_whole_request_is_told_so_and_closed(sent: bytes) -> None:
    async with running(door(), silent_seconds=0.05) as server:
        reply = parsed(await exchange(server.port, sent))
        assert (reply.status, reply.json["error"]) == (408, "request_too_slow")


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    async with running(door(), silent_seconds=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /intake/door HTTP/1.1\r\nX: ")
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            writer.write(b"x")
            await asyncio.sleep(0.005)
        assert b"408" in await answer
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("next_sent", [b"", b"POST /intake/d"])
async def test_a_connection_that_sends_no_further_request_is_closed(next_sent: bytes) -> None:
    async with running(door(), idle_seconds=0.05) as server:
        first = b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        assert parsed(await exchange(server.port, first + next_sent)).status == 200


async def test_a_request_that_takes_long_to_answer_is_no_silent_connection() -> None:
    async def slow(_: Request) -> Answer:
        await asyncio.sleep(0.1)
        return Answer("done", 200, "{}")

    async with running(door(slow), silent_seconds=0.02, idle_seconds=0.02) as server:
        assert (await server.post(b"")).status == 200


async def test_a_sender_that_goes_away_half_way_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logs:
        async with running(door()) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            await asyncio.sleep(0.02)
            writer.close()
            await asyncio.sleep(0.02)
    assert not logs
    assert not caplog.records


async def test_an_event_is_taken_though_its_sender_did_not_wait_for_the_answer() -> None:
    arrived, taken = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Answer:
        arrived.set()
        await asyncio.sleep(0.02)
        taken.set()
        return Answer("done", 200, "{}")

    async with running(door(slow)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await arrived.wait()
        writer.close()
        await asyncio.wait_for(taken.wait(), 5)


async def test_a_database_that_refuses_connections_is_no_sender_that_has_gone() -> None:
    async def refused(_: Request) -> Answer:
        raise ConnectionRefusedError

    async with running(door(refused)) as server:
        assert (await server.post(b"")).status == 500


async def test_a_connection_over_the_bound_is_told_so_while_all_others_are_being_answered() -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Answer:
        arrived.set()
        await released.wait()
        return Answer("done", 200, "{}")

    async with running(door(slow), max_connections=1) as server:
        asking = asyncio.create_task(server.post(b""))
        await arrived.wait()
        reply = parsed(await exchange(server.port, b""))
        assert (reply.status, reply.json["error"]) == (503, "too_many_connections")
        assert reply.headers["Retry-After"] == "5"
        assert server.registry.get_sample_value("nightbell_turned_away_total") == 1
        released.set()
        assert (await asking).status == 200


HEAD = b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"POST /intake/d", HEAD + b"slow"], ids=["silent", "head", "body"])
async def test_who_keeps_a_full_door_waiting_is_told_so_and_makes_room(sent: bytes) -> None:
    async with running(door(), max_connections=1) as server:
        async with half_open(server.port, "127.0.0.1", sent) as reader:
            assert (await server.post(b"abc")).text == "3"
            reply = parsed(await asyncio.wait_for(reader.read(), 5))
        assert (reply.status, reply.json["error"]) == (503, "too_many_connections")
        assert server.registry.get_sample_value("nightbell_turned_away_total") == 1


async def test_one_source_takes_no_more_than_its_share() -> None:
    async with running(door(), max_of_one=2) as server, AsyncExitStack() as others:
        for host in ("127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3"):
            await others.enter_async_context(half_open(server.port, host))
        assert (await server.post(b"abc")).text == "3"
        assert server.registry.get_sample_value("nightbell_turned_away_total") == 1


@asynccontextmanager
async def half_open(
    port: int, host: str, sent: bytes = b"POST /intake/door HTTP/1.1\r\nHost: x\r\n"
) -> AsyncIterator[asyncio.StreamReader]:
    """A connection from an address of the loopback that sends half a request, and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    writer.write(sent)
    try:
        yield reader
    finally:
        writer.close()


async def test_through_thousands_of_half_open_connections_every_request_comes_in() -> None:
    """From a thousand addresses, three times as many as the door holds, while new ones keep coming."""
    async with running(door()) as server, AsyncExitStack() as flood:
        for number in range(3 * MAX_CONNECTIONS):
            host = f"127.1.{number % 250}.{1 + number % 4}"
            await flood.enter_async_context(half_open(server.port, host))
            if number % 128 == 0:
                async with aiohttp.ClientSession() as session:
                    url = f"http://127.0.0.1:{server.port}/intake/door"
                    async with session.post(url, data=b"abc") as response:
                        assert (response.status, await response.text()) == (200, "3")
        assert (server.registry.get_sample_value("nightbell_turned_away_total") or 0) > MAX_CONNECTIONS


async def test_a_connection_that_was_closed_makes_room_for_another() -> None:
    async with running(door(), max_connections=1) as server:
        for _ in range(3):
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{server.port}/intake/door"
                async with session.post(url, data=b"abc", headers={"Connection": "close"}) as response:
                    assert response.status == 200
            await asyncio.sleep(0.01)


async def test_a_compressed_body_is_refused() -> None:
    async with running(door()) as server:
        reply = await server.request("POST", "/intake/door", data=b"x" * 100, compress="gzip")
        assert (reply.status, reply.json["error"]) == (415, "compressed_body")


async def test_an_unknown_path_is_refused_in_json() -> None:
    async with running(door()) as server:
        reply = await server.post(b"", path="/intake/unknown?number=15550001111")
        assert (reply.status, reply.json["error"]) == (404, "not_found")
        assert "1555" not in reply.text


async def test_a_wrong_method_is_refused_and_told_the_right_one() -> None:
    async with running(door()) as server:
        reply = await server.request("GET", "/intake/door")
        assert (reply.status, reply.json["error"]) == (405, "method_not_allowed")
        assert reply.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00canary",
        b"canary\r\n\r\n",
        b"POST /intake/door HTTP/1.1\r\nca nary: 1\r\n\r\n",
        b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: canary\r\n\r\n",
        b"POST /intake/door HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
        b"POST /intake/door HTTP/1.1\r\nHost: x\r\nX: " + b"canary" * 2000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_in_json_and_not_repeated(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        async with running(door()) as server:
            reply = parsed(await exchange(server.port, sent))
    assert (reply.status, reply.json["error"]) == (400, "malformed_http")
    assert "canary" not in reply.text + caplog.text + str(logs)


@settings(max_examples=50)
@given(
    st.binary() | st.binary().map(lambda raw: b"POST /intake/door HTTP/1.1\r\nHost: x\r\n" + raw),
    st.sampled_from([b"", b"\r\n\r\n"]),
)
async def test_no_bytes_bring_the_server_down(sent: bytes, end: bytes) -> None:
    async with running(
        door(), app={"body_seconds": 0.01}, silent_seconds=0.01, idle_seconds=0.01, drain_seconds=0.01
    ) as server:
        with suppress(ConnectionResetError):  # it was closed before all of it had come
            raw = await exchange(server.port, sent + end)
            assert raw == b"" or parsed(raw).status < 500
        while (reply := await server.post(b"abc")).status == 408:
            pass  # a machine in a hurry was too slow to send it
        assert reply.text == "3"


async def test_an_unknown_expectation_is_refused_in_json() -> None:
    async with running(door()) as server:
        reply = await server.post(b"", {"Expect": "canary"})
        assert (reply.status, reply.json["error"]) == (417, "expectation_failed")


async def test_a_crash_is_a_500_that_says_where_and_never_what() -> None:
    with capture_logs() as logs:
        async with running(door(crash)) as server:
            reply = await server.post(b"canary")
    assert (reply.status, reply.json["error"]) == (500, "internal_error")
    [failure] = [entry for entry in logs if entry["event"] == "request_failed"]
    assert (failure["channel"], failure["error"]) == ("door", "ValueError")
    assert "test_http.py" in failure["at"][-1]
    assert "canary" not in reply.text + str(logs)


async def test_every_request_to_a_channel_is_one_line_in_the_log() -> None:
    with capture_logs() as logs:
        async with running(door()) as server:
            await server.post(b"abc", path="/intake/door?number=15550001111")
    [line] = logs
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "request_answered",
        "log_level": "info",
        "channel": "door",
        "outcome": "counted",
        "status": 200,
    }


async def test_requests_are_counted_by_channel_and_outcome() -> None:
    async with running(door()) as server:
        await server.post(b"abc")
        await server.request("POST", "/intake/door", data=b"", headers={"Content-Encoding": "br"})
        for outcome in ("counted", "compressed_body"):
            labels = {"channel": "door", "outcome": outcome}
            assert server.registry.get_sample_value("nightbell_intake_requests_total", labels) == 1
        assert server.registry.get_sample_value("nightbell_intake_seconds_count", {"channel": "door"}) == 2


async def test_a_request_that_has_arrived_is_answered_before_the_server_stops() -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Answer:
        arrived.set()
        await released.wait()
        return Answer("done", 200, "{}")

    async def ask(url: str) -> int:
        async with aiohttp.ClientSession() as session, session.post(url) as response:
            return response.status

    async with running(door(slow)) as server:
        asking = asyncio.create_task(ask(f"http://127.0.0.1:{server.port}/intake/door"))
        await arrived.wait()
        asyncio.get_running_loop().call_later(0.05, released.set)
    assert await asking == 200


async def test_a_request_that_takes_too_long_does_not_hold_up_the_stop() -> None:
    arrived = asyncio.Event()

    async def stuck(_: Request) -> Answer:
        arrived.set()
        await asyncio.Event().wait()
        return Answer("never", 200, "{}")

    async with running(door(stuck), drain_seconds=0.05) as server:
        asking = asyncio.create_task(server.post(b""))
        await arrived.wait()
        stopping = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopping < 2
    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_nothing_is_listening_after_the_stop() -> None:
    async with running(door()) as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with running(door()) as server:
        with pytest.raises(OSError, match="address already in use"):
            async with serve(build_metrics_application(CollectorRegistry()), "127.0.0.1", server.port):
                pass


async def test_who_comes_too_often_is_told_when_to_come_again() -> None:
    async with running(door(), app={"per_minute": 2}) as server:
        replies = [await server.post(b"x") for _ in range(3)]
        metrics = generate_latest(server.registry).decode()
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[-1].json["error"] == "too_many_requests"
    assert replies[-1].headers["Retry-After"] == "30"
    assert 'nightbell_intake_requests_total{channel="door",outcome="too_many_requests"} 1.0' in metrics


PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:7::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # who is no proxy is not believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),  # what stands before it, the sender wrote
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("2001:db8:7::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_a_proxy_is_believed_whom_it_speaks_for(peer: str, forwarded: list[str], found: str) -> None:
    assert came_from(peer, forwarded, PROXIES) == found


@given(st.text(), st.lists(st.text()))
def test_whatever_is_written_there_some_address_is_found(peer: str, forwarded: list[str]) -> None:
    assert isinstance(came_from(peer, forwarded, PROXIES), str)


async def test_behind_a_proxy_each_source_has_a_rate_of_its_own() -> None:
    async def ask(source: str) -> int:
        return (await server.post(b"x", {"X-Forwarded-For": source})).status

    async with running(door(), app={"per_minute": 1, "proxies": [ip_network("127.0.0.1")]}) as server:
        assert [await ask("192.0.2.1"), await ask("192.0.2.1"), await ask("192.0.2.2")] == [200, 429, 200]
    async with running(door(), app={"per_minute": 1}) as server:
        assert [await ask("192.0.2.1"), await ask("192.0.2.2")] == [200, 429]


async def test_a_proxy_may_have_as_many_connections_as_there_are() -> None:
    async with running(door(), app={"proxies": [ip_network("127.0.0.1")]}, max_of_one=1) as server:
        async with half_open(server.port, "127.0.0.1"), half_open(server.port, "127.0.0.1"):
            assert (await server.post(b"abc")).text == "3"
        assert server.registry.get_sample_value("nightbell_turned_away_total") == 0


async def test_through_a_proxy_that_passes_on_slow_bodies_of_some_the_others_come_in() -> None:
    slow = HEAD.replace(b"Host: x", b"Host: x\r\nX-Forwarded-For: 192.0.2.1") + b"slow"
    proxies = {"proxies": [ip_network("127.0.0.1")]}
    async with (
        running(door(), app=proxies, max_connections=2) as server,
        half_open(server.port, "127.0.0.1", slow) as first,
        half_open(server.port, "127.0.0.1", slow),
    ):
        while (reply := await server.post(b"abc", {"X-Forwarded-For": "192.0.2.2"})).status == 503:
            pass  # whom the slow ones come from is known when their heads are read
        assert reply.text == "3"
        assert b"503" in await asyncio.wait_for(first.readline(), 5)


async def test_health_says_that_the_bridge_can_take_events() -> None:
    async with running(door()) as server:
        reply = await server.request("GET", "/health")
        assert (reply.status, reply.json) == (200, {"status": "ready", "parts": {"database": "ok"}})


async def test_health_is_503_while_the_bridge_can_not_take_events() -> None:
    async def unwell() -> Health:
        return Health(ready=False, parts={"database": "away"})

    async with running(door(), app={"health": unwell}) as server:
        reply = await server.request("GET", "/health")
        assert (reply.status, reply.json) == (503, {"status": "not ready", "parts": {"database": "away"}})
        assert (await server.request("GET", "/health/live")).status == 200


async def test_a_health_check_that_crashes_is_a_500_in_json(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> Health:
        raise RuntimeError("canary")

    with capture_logs() as logs:
        async with running(door(), app={"health": broken}) as server:
            reply = await server.request("GET", "/health")
    assert (reply.status, reply.json["error"]) == (500, "internal_error")
    assert "canary" not in reply.text + caplog.text + str(logs)


async def test_metrics_have_a_door_of_their_own() -> None:
    in_hand.learn("counted")
    async with running(door()) as server:
        await server.post(b"abc")
        assert (await server.request("GET", "/metrics")).status == 404
        async with (
            serve(build_metrics_application(server.registry), "127.0.0.1", 0) as port,
            server.session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            assert 'nightbell_intake_requests_total{channel="door"' in await response.text()


@pytest.mark.parametrize("path", ["/intake/unknown", "/health"])
async def test_every_refusal_has_a_machine_readable_word_and_a_sentence(path: str) -> None:
    async with running(door()) as server:
        document: dict[str, Any] = json.loads((await server.request("PUT", path)).text)
        assert set(document) == {"error", "message"}
        assert document["message"].endswith(".")
