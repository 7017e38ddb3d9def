"""Debian's Kannel, with its fake SMSC: texts go through it and come in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.model.event import IntakeEvent
from bridge.model.ids import IntakeId
from bridge.model.phi import Phi
from testbed.process import free_port
from tests.channels.signers import KANNEL_SECRET
from tests.channels.wire import KANNEL, RememberingInbox, opened, reachable, running

FAKE_SMSC = Path("/usr/lib/kannel/test/fakesmsc")
CONF = """
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = bar
smsbox-port = {smsbox}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
dlr-storage = internal
sms-combine-concatenated-mo = true

group = smsc
smsc = fake
smsc-id = FAKE
port = {smsc}
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
mo-recode = {recode}
http-request-retry = 20
http-queue-delay = 1

group = sms-service
keyword = {keyword}
catch-all = true
max-messages = {replies}
omit-empty = true
send-sender = true
{url}
"""
PORTS = ("admin", "smsbox", "smsc", "sendsms")
QUERY = f"secret={KANNEL_SECRET}&id=%I&from=%p&to=%P&unix=%T"
POST = 'post-url = "http://127.0.0.1:{port}/intake/door?' + QUERY + '"'
GET = 'get-url = "http://127.0.0.1:{port}/intake/door?' + QUERY + '&text=%a&coding=%c&charset=%C&udh=%u"'
XML = 'post-xml = "http://127.0.0.1:{port}/intake/door?' + QUERY + '"'

pytestmark = pytest.mark.skipif(
    not FAKE_SMSC.exists(), reason="the Debian packages kannel and kannel-extras are not installed"
)


@asynccontextmanager
async def program(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def kannel(
    directory: Path, intake_port: int, url: str, recode: str, replies: int = 0
) -> AsyncIterator[int]:
    """Kannel, ready for texts; yields the port of its fake SMSC."""
    ports = {name: free_port() for name in PORTS}
    conf = directory / "kannel.conf"
    url = url.format(port=intake_port)
    conf.write_text(CONF.format(**ports, url=url, recode=recode, keyword="default", replies=replies))
    async with program("/usr/sbin/bearerbox", conf):
        await reachable(ports["smsbox"])
        async with program("/usr/sbin/smsbox", conf):
            await reachable(ports["sendsms"])
            yield ports["smsc"]


async def text(smsc: int, message: str, count: int = 1) -> None:
    async with program(FAKE_SMSC, "-r", str(smsc), "-m", str(count), "-i", "0.01", message):
        await asyncio.sleep(0.4)


async def arrived(inbox: RememberingInbox, count: int) -> None:
    async with asyncio.timeout(20):
        while len(inbox.events) < count:
            await asyncio.sleep(0.05)


async def said_to_contain(log: Path, words: str) -> None:
    async with asyncio.timeout(20):
        while words not in await asyncio.to_thread(log.read_text):
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(
    params=[(POST, "true"), (POST, "false"), (GET, "true"), (GET, "false"), (XML, "true"), (XML, "false")],
    ids=["POST", "POST, as sent", "GET", "GET, as sent", "XML", "XML, as sent"],
)
async def smsc(request: pytest.FixtureRequest, inbox: RememberingInbox, tmp_path: Path) -> AsyncIterator[int]:
    url, recode = request.param
    async with running(opened(KANNEL, inbox)) as server, kannel(tmp_path, server.port, url, recode) as smsc:
        yield smsc


async def test_texts_that_kannel_receives_come_in(smsc: int, inbox: RememberingInbox) -> None:
    await text(smsc, "+15550001111 45678 text hello")
    await text(smsc, "+15550002222 45678 ucs2 %D8%3D%DE%91%00%20%00c%00a%00f%00%E9")
    await arrived(inbox, 2)
    assert [(event.caller, event.called, event.body) for event in inbox.events] == [
        (Phi("+15550001111"), Phi("45678"), Phi("hello")),
        (Phi("+15550002222"), Phi("45678"), Phi("🚑 café")),
    ]
    assert not inbox.unreadable


async def test_the_parts_of_a_long_text_come_in_as_one(inbox: RememberingInbox, tmp_path: Path) -> None:
    async with (
        running(opened(KANNEL, inbox)) as server,
        kannel(tmp_path, server.port, POST, "true") as smsc,
    ):
        await text(smsc, "+15550003333 45678 udh-text %05%00%03%2a%02%02 second half")
        await text(smsc, "+15550003333 45678 udh-text %05%00%03%2a%02%01 first half and ")
        await arrived(inbox, 1)
        assert [event.body for event in inbox.events] == [Phi("first half and second half")]


async def test_a_text_that_comes_while_the_database_is_away_comes_again(
    inbox: RememberingInbox, tmp_path: Path
) -> None:
    inbox.away = True
    async with (
        running(opened(KANNEL, inbox)) as server,
        kannel(tmp_path, server.port, POST, "true") as smsc,
    ):
        await text(smsc, "+15550001111 45678 text hello")
        assert not inbox.events
        inbox.away = False
        await arrived(inbox, 1)
        assert [event.body for event in inbox.events] == [Phi("hello")]


async def test_the_words_of_a_rule_go_back_to_the_sender_through_kannel(
    inbox: RememberingInbox, tmp_path: Path
) -> None:
    async def reply(event: IntakeEvent, _: IntakeId) -> str | None:
        return "Wir haben die Ärztin gerufen." if "pain" in event.body.reveal() else None

    said = tmp_path / "fakesmsc.log"
    async with (
        running(opened(KANNEL, inbox, reply=reply)) as server,
        kannel(tmp_path, server.port, POST, "true", replies=1) as smsc,
    ):
        for number, words in enumerate(("hello", "pain"), start=1):
            message = f"+15550001111 45678 text {words}"
            command = (FAKE_SMSC, "-F", said, "-V", "0", "-r", str(smsc), "-m", "1", "-i", "0.01", message)
            async with program(*command):
                await arrived(inbox, number)
                if number == 2:
                    await said_to_contain(said, "Got message")
    received = [line for line in said.read_text().splitlines() if "Got message" in line]
    assert len(received) == 1
    assert received[0].endswith("<45678 +15550001111 text Wir haben die Ärztin gerufen.>")
