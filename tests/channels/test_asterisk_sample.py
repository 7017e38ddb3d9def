"""A test event that Asterisk says to all who listen, as it would at the prompting of any other program."""

from __future__ import annotations

import asyncio
import io
import os
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge.channels import asterisk_sample, read_settings
from bridge.channels.asterisk import AsteriskSettings
from bridge.channels.asterisk_sample import announce
from bridge.channels.asterisk_spool import Spool
from bridge.channels.channel import NoSampleError, Probe
from bridge.config.source import parse_source
from bridge.config.validate import ChannelSection
from bridge.model.event import EventKind
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from tests.channels.pbx import Pbx, pbx, reply
from tests.channels.signers import utc_now
from tests.channels.test_asterisk import bridged, until
from tests.channels.wire import ASTERISK, SECRETS, RememberingInbox


@pytest.fixture
async def exchange() -> AsyncIterator[Pbx]:
    async with pbx(Pbx()) as made:
        yield made


def section(made: Pbx, more: str = "") -> AsteriskSettings:
    source = parse_source("nightbell.yaml", ASTERISK.replace("PORT", str(made.port)) + more)
    settings = read_settings(ChannelId("door"), ChannelSection("asterisk", source, (), Path()))
    assert isinstance(settings, AsteriskSettings)
    return settings


def probe(kind: EventKind | None = None, to: str = "cardiology") -> Probe:
    return Probe("", "1a2b", utc_now(), "Naïve\r\nAction: Originate ☎", to, kind, caller_name="Zoë")


async def test_it_comes_to_the_bridge_as_a_page_each_time(exchange: Pbx, inbox: RememberingInbox) -> None:
    with patch.dict(os.environ, SECRETS):
        async with bridged(exchange, inbox):
            await exchange.connected.wait()
            await announce(section(exchange), probe())
            await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.kind, event.body) == (EventKind.PAGE, Phi("Naïve Action: Originate ☎"))
    assert (event.caller, event.caller_name) == (Phi("+12025550100"), Phi("Zoë"))
    assert event.recipient == Phi("cardiology")


async def test_programs_that_number_their_actions_alike_say_two_things(
    exchange: Pbx, inbox: RememberingInbox
) -> None:
    async with bridged(exchange, inbox):
        await exchange.connected.wait()
        for second in ("1795492939", "1795492940"):
            said = f"Event: UserEvent\r\nTimestamp: {second}.1\r\nUserEvent: Nightbell\r\nActionID: 1\r\n\r\n"
            exchange.writers[0].write(said.encode())
        await until(lambda: len(inbox.events) > 1)


async def test_a_voicemail_has_a_recording(exchange: Pbx, inbox: RememberingInbox, tmp_path: Path) -> None:
    more = f"spool: {tmp_path}\n"
    with patch.dict(os.environ, SECRETS):
        async with bridged(exchange, inbox, ASTERISK + more):
            await exchange.connected.wait()
            await announce(section(exchange, more), probe(EventKind.VOICEMAIL, "100"))
            await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.kind, event.recipient) == (EventKind.VOICEMAIL, Phi("100"))
    found = await Spool(tmp_path).media(remove=False).fetch(event.attachments[0])
    with wave.open(io.BytesIO(found.content.reveal())) as sound:
        assert sound.getnframes() == sound.getframerate()


async def test_a_voicemail_needs_a_spool_and_a_mailbox_that_leads_nowhere_else(
    exchange: Pbx, tmp_path: Path
) -> None:
    with patch.dict(os.environ, SECRETS):
        with pytest.raises(NoSampleError, match="needs this channel's spool"):
            await announce(section(exchange), probe(EventKind.VOICEMAIL))
        with pytest.raises(NoSampleError, match="choose another --to"):
            await announce(section(exchange, f"spool: {tmp_path}\n"), probe(EventKind.VOICEMAIL, "../../etc"))
    assert not (tmp_path / "nightbell").exists()


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (reply("Error", "1a2b", "Message: Permission denied\r\n"), "add user to the write"),
        (reply("Success", "1a2b", "Message: Event Sent\r\n"), "add user to the read"),
    ],
)
async def test_what_manager_conf_lacks_is_said(
    exchange: Pbx, monkeypatch: pytest.MonkeyPatch, answer: bytes, remedy: str
) -> None:
    monkeypatch.setattr(asterisk_sample, "ANSWER_SECONDS", 0.2)
    exchange.answers["UserEvent"] = answer
    with patch.dict(os.environ, SECRETS), pytest.raises(NoSampleError, match=remedy):
        await announce(section(exchange), probe())


async def test_a_wrong_secret_is_said(exchange: Pbx) -> None:
    exchange.secret = "another"
    with patch.dict(os.environ, SECRETS), pytest.raises(NoSampleError, match="refused the login"):
        await announce(section(exchange), probe())


@pytest.mark.parametrize("answer", [b"", b"x" * 400_000], ids=["closes", "speaks no AMI"])
async def test_who_does_not_answer_as_asterisk_does_is_told(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    made = Pbx(port=server.sockets[0].getsockname()[1])
    async with server:
        with patch.dict(os.environ, SECRETS), pytest.raises(NoSampleError, match="does not speak AMI"):
            await announce(section(made), probe())


async def test_an_asterisk_that_says_nothing_is_waited_for_and_left(
    exchange: Pbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk_sample, "ANSWER_SECONDS", 0.2)
    exchange.answers["UserEvent"] = b""
    with patch.dict(os.environ, SECRETS), pytest.raises(TimeoutError):
        await asyncio.wait_for(announce(section(exchange), probe()), 5)
