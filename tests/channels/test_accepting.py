"""Out of open files: connections wait, nothing else stops, and it is told."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from bridge.channels import accepting
from bridge.channels.accepting import Accepting, raise_open_files
from bridge.engine.capture import Captures
from bridge.engine.pulse import Pulse
from bridge.gate import Gate, health_of
from bridge.house import House
from bridge.store import outbox
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault
from tests.channels.signers import utc_now
from tests.channels.test_http import door
from tests.channels.wire import SMTP, SNPP, RememberingInbox, listening, running


@contextmanager
def no_open_file_left() -> Iterator[None]:
    """Files are numbered by the lowest that is free: up to the next of them, and no further."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(following := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (following, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


async def asked_while_short(port: int, said: bytes) -> tuple[bool, bytes]:
    """Whether it was told that a connection could not be taken, and what came back when it could."""
    hears, loop = Accepting(CollectorRegistry()), asyncio.get_running_loop()
    before = loop.get_exception_handler()
    hears.watch(loop)
    with socket.socket() as client:
        client.setblocking(False)  # noqa: FBT003 - the library's own
        with no_open_file_left():
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, said)
            async with asyncio.timeout(10):
                while not (told := hears.failed_lately()):
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            answer = await loop.sock_recv(client, 100)
    loop.set_exception_handler(before)
    return told, answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.05)


async def test_a_request_waits_until_there_is_an_open_file_again() -> None:
    async with running(door()) as server:
        said = b"POST /intake/door HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        told, answer = await asked_while_short(server.port, said)
        assert told
        assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("section", [SNPP, SMTP], ids=["snpp", "smtp"])
async def test_a_client_waits_until_there_is_an_open_file_again(
    section: str, inbox: RememberingInbox
) -> None:
    async with listening(section, inbox) as port:
        told, answer = await asked_while_short(port, b"")
        assert told
        assert answer.startswith(b"220 ")


async def test_operations_health_and_metrics_are_told_of_it_and_of_its_end(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(32)))
    await keys.claim(database, utc_now())
    registry, loop, nobody = CollectorRegistry(), asyncio.get_running_loop(), cast("Any", None)
    house, pulse = House(nobody, database, keys, nobody, nobody), Pulse(utc_now, registry)
    gate = Gate(
        house,
        pulse,
        utc_now,
        lambda: None,
        Captures(database, keys, utc_now, lambda: None),
        Accepting(registry),
    )
    gate.accepting.watch(loop)
    loop.call_exception_handler(
        {"message": "no room", "exception": OSError(errno.EMFILE, "no room"), "socket": None}
    )
    told = []
    for _ in range(3):
        await gate.look()
        health = await health_of(house, pulse, gate)
        told.append((health.ready, health.parts.get("channel (doors)", "")[:25]))
    async with database.read() as connection:
        said = await outbox.depth(connection)
    loop.set_exception_handler(None)
    await database.close()
    assert told == [(False, "connections have to wait:"), (True, "well"), (True, "well")]
    assert said == 2
    assert registry.get_sample_value("nightbell_accepts_failed_total") == 1


async def test_what_else_the_loop_reports_goes_where_it_went_before() -> None:
    loop, reported = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
    hears = Accepting(CollectorRegistry())
    hears.watch(loop)
    loop.call_exception_handler({"message": "another", "exception": ValueError()})
    loop.set_exception_handler(None)
    assert (reported, hears.failed_lately()) == (["another"], False)


def test_as_many_files_may_be_open_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(accepting, "ENOUGH", allowed)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed - 1, most))
        raise_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
