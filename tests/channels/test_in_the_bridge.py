"""Channels that are no HTTP, and a sender that asks how far its page has come, in a running bridge."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from socket import socket

import aiohttp
import pytest
import typer
from typer.testing import CliRunner

from bridge.channels import CHANNEL_TYPES
from bridge.cli.send import send as send_command
from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.process import free_port
from testbed.shift import Shift
from testbed.wards import own_config, write_config
from tests.channels.every_kind import every_kind
from tests.channels.pbx import Pbx, pbx
from tests.channels.signers import (
    TELNYX_API_KEY,
    TELNYX_PUBLIC_KEY,
    WCTP_CODE,
    telnyx_headers,
)
from tests.channels.test_asterisk import ABANDON
from tests.channels.test_snpp import say
from tests.channels.test_wctp import Desk, listening_desk, poll, submit, taken
from tests.channels.texting import Api, serving
from tests.channels.wire import SECRETS

ANSWERED = {
    "id": "ward",
    "when": {"channel": "ward"},
    "then": {"role": "cardiology", "auto_reply": "We have called a doctor."},
}
SNPP_PORT, TAKEN_PORT = free_port(), free_port()


@pytest.fixture(scope="module")
async def exchange() -> AsyncIterator[Pbx]:
    async with pbx(Pbx()) as made:
        yield made


@pytest.fixture(scope="module")
def squatter() -> Iterator[socket]:
    """Another program, which listens where a channel of ours should."""
    with socket() as other:
        other.bind(("127.0.0.1", TAKEN_PORT))
        other.listen()
        yield other


@pytest.fixture(scope="module")
async def sender() -> AsyncIterator[tuple[Desk, str]]:
    """Whoever hears what becomes of the pages from the desk."""
    desk = Desk()
    async with listening_desk(desk) as url:
        yield desk, url


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[tuple[Api, str]]:
    """Telnyx's API."""
    async with serving(api := Api()) as url:
        yield api, url


@pytest.fixture(scope="module")
async def hospital(
    tmp_path_factory: pytest.TempPathFactory,
    exchange: Pbx,
    squatter: socket,
    sender: tuple[Desk, str],
    provider: tuple[Api, str],
) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("listeners")
    (directory / "wctp").write_text(WCTP_CODE)
    (directory / "telnyx").write_text(TELNYX_API_KEY)
    documents = own_config()
    doors = every_kind(directory, exchange.port)
    channels = {
        **doors,
        "pagers": {"type": "snpp", "port": SNPP_PORT, "peers": "127.0.0.1"},
        "spare": {"type": "snpp", "port": TAKEN_PORT, "peers": "127.0.0.1"},
        "desk": {
            "type": "wctp",
            "senders": dict.fromkeys(("desk", "night"), f"file:{directory / 'wctp'}"),
            "push": {"desk": sender[1]},
            "poll": ["night"],
        },
        "ward": {
            "type": "telnyx",
            "public_keys": TELNYX_PUBLIC_KEY,
            "api_key": f"file:{directory / 'telnyx'}",
            "api": provider[1],
        },
    }
    rule = {"id": "pagers", "when": {"channel": list(channels)}, "then": {"role": "cardiology"}}
    documents["routing.yaml"]["rules"] = [ANSWERED, rule, *documents["routing.yaml"]["rules"]]
    documents["nightbell.yaml"]["channels"] |= channels
    config = write_config(directory / "config", documents)
    async with Hospital(directory, config=config, environment=SECRETS) as opened:
        yield opened


@pytest.fixture(scope="module")
async def okafor(hospital: Hospital) -> AsyncIterator[Clinician]:
    async with Shift(hospital) as shift:
        client = await shift.nio("okafor")
        await client.entrusted()
        yield client


async def test_a_page_over_snpp_is_read_in_a_room(hospital: Hospital, okafor: Clinician) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", SNPP_PORT)
    writer.write(b"PAGE cardiology\r\nMESS Over an old wire\r\nSEND\r\nQUIT\r\n")
    await okafor.message("Over an old wire")
    writer.close()


async def test_what_a_clinician_taps_under_a_two_way_page_is_told_to_who_asks(
    hospital: Hospital, okafor: Clinician
) -> None:
    sent = await say(SNPP_PORT, "2WAY", "MCRE 07 On my way", "PAGE cardiology", "MESS Bed 9?", "SEND", "QUIT")
    [queued] = [line for line in sent if line.startswith("960")]
    page = await okafor.message("Bed 9?")
    await okafor.react(page.event_id, "1️⃣")
    _, tag, code, *_ = queued.split()
    async with asyncio.timeout(20):
        while not (status := (await say(SNPP_PORT, f"MSTA {tag} {code}", "QUIT"))[1]).startswith("888 1 "):
            await asyncio.sleep(0.2)
    assert status.endswith(" 07")


async def test_an_abandoned_call_is_read_in_a_room(
    hospital: Hospital, okafor: Clinician, exchange: Pbx
) -> None:
    await exchange.connected.wait()
    exchange.writers[0].write(ABANDON)
    await okafor.message("Maria Lopez")


async def test_a_sender_hears_that_its_page_was_delivered_and_read(
    hospital: Hospital, okafor: Clinician
) -> None:
    url = f"{hospital.bridge.base_url}/intake/desk"
    async with aiohttp.ClientSession() as session:

        async def say(document: str) -> str:
            async with session.post(url, data=document.encode()) as answer:
                return await answer.text()

        async def until(state: str, tracking: str) -> None:
            query = (
                '<wctp-Operation wctpVersion="1.3"><wctp-ClientQuery senderID="desk" '
                f'recipientID="cardiology" trackingNumber="{tracking}"/></wctp-Operation>'
            )
            async with asyncio.timeout(20):
                while f'type="{state}"' not in await say(query):
                    await asyncio.sleep(0.1)

        confirmed = await say(submit("<wctp-Alphanumeric>Is it read?</wctp-Alphanumeric>"))
        [tracking] = re.findall(">([0-9a-f]{32})<", confirmed)
        page = await okafor.message("Is it read?")
        await until("DELIVERED", tracking)
        await okafor.react(page.event_id, "✅")
        await until("READ", tracking)


async def test_a_door_that_is_taken_keeps_no_other_closed_and_opens_when_it_is_free(
    hospital: Hospital, okafor: Clinician, squatter: socket
) -> None:
    health = await hospital.bridge.health()
    assert health is not None
    assert health["status"] == "not ready"
    assert "address already in use" in health["parts"]["channel spare"]
    assert "address already in use" in await hospital.bridge.command("channels")
    squatter.close()
    async with asyncio.timeout(30):
        while health["status"] != "ready":
            await asyncio.sleep(0.1)
            health = await hospital.bridge.health()
            assert health is not None
    assert await hospital.bridge.command("send", "spare", "--text", "Through the spare door")
    await okafor.message("Through the spare door")


async def test_a_choice_that_a_clinician_taps_and_a_text_reach_the_sender_by_push(
    hospital: Hospital, okafor: Clinician, sender: tuple[Desk, str]
) -> None:
    desk, _ = sender
    offered = (
        "<wctp-MCR><wctp-MessageText>Bed 7?</wctp-MessageText><wctp-Choice>Coming</wctp-Choice>"
        "<wctp-Choice>Call me</wctp-Choice></wctp-MCR>"
    )
    asked = 'messageID="mcr-1" notifyWhenDelivered="true" notifyWhenRead="true"'

    async def until(said: str) -> str:
        async with asyncio.timeout(20):
            while not (heard := [each for each in desk.heard if "mcr-1" in each and said in each]):
                await asyncio.sleep(0.1)
        return heard[0]

    async with aiohttp.ClientSession() as session:
        url = f"{hospital.bridge.base_url}/intake/desk"
        desk.says = [(500, "away")]
        async with session.post(url, data=submit(offered, control=asked).encode()) as answer:
            assert "wctp-Success" in await answer.text()
    page = await okafor.message("Bed 7?")
    assert page.body.count("1️⃣ Coming") == 1
    await until('type="DELIVERED"')
    await okafor.react(page.event_id, "2️⃣")
    heard = await until("<wctp-Alphanumeric>Call me</wctp-Alphanumeric>")
    assert 'responseToMessageID="mcr-1"' in heard
    assert 'MCRMessageReply="true"' in heard
    await until('type="READ"')
    await okafor.message("The page still waits")
    await okafor.react(page.event_id, "✅")
    await okafor.say(page.room_id, "coming", in_reply_to=page.event_id)
    await until("<wctp-Alphanumeric>Coming</wctp-Alphanumeric>")


async def test_a_sender_that_polls_gets_every_step_and_answer_over_a_kill(
    hospital: Hospital, okafor: Clinician
) -> None:
    offered = (
        "<wctp-MCR><wctp-MessageText>Bed 8?</wctp-MessageText><wctp-Choice>Coming</wctp-Choice>"
        "<wctp-ChoicePair><wctp-SendChoice>Call me</wctp-SendChoice><wctp-ReplyChoice>C</wctp-ReplyChoice>"
        "</wctp-ChoicePair></wctp-MCR>"
    )
    asked = 'messageID="mcr-2" notifyWhenQueued="true" notifyWhenDelivered="true" notifyWhenRead="true"'

    async def say(document: str) -> str:
        url = f"{hospital.bridge.base_url}/intake/desk"
        async with aiohttp.ClientSession() as session, session.post(url, data=document.encode()) as answer:
            return await answer.text()

    async def until(said: str) -> str:
        async with asyncio.timeout(20):
            while said not in (given := await say(poll(poller="night"))):
                await asyncio.sleep(0.1)
        return given

    assert "wctp-Success" in await say(submit(offered, control=asked, sender="night"))
    page = await okafor.message("Bed 8?")
    await until('type="DELIVERED"')
    assert 'type="READ"' not in await say(poll(poller="night"))
    await okafor.read(page.event_id)
    await until('type="READ"')
    await okafor.react(page.event_id, "1️⃣")
    await until("<wctp-Alphanumeric>Coming</wctp-Alphanumeric>")
    await okafor.say(page.room_id, "call me", in_reply_to=page.event_id)
    given = await until("<wctp-Alphanumeric>C</wctp-Alphanumeric>")
    assert re.findall('type="(.*?)"', given) == ["QUEUED", "DELIVERED", "READ"]
    assert given.count('MCRMessageReply="true"') == 2
    await hospital.bridge.kill()
    await hospital.bridge.start()
    async with asyncio.timeout(20):
        while (again := await say(poll(poller="night"))) != given:
            assert set(re.findall("<wctp-Message .*?</wctp-Message>", again)) < set(
                re.findall("<wctp-Message .*?</wctp-Message>", given)
            )
            await asyncio.sleep(0.1)
    numbers = [int(each) for each in re.findall('sequenceNo="(.*?)"', given)]
    assert "<wctp-NoMessages/>" in await say(poll(poller="night", received=taken(*numbers)))
    await okafor.react(page.event_id, "✅")


@pytest.mark.slow
async def test_a_choice_is_tapped_and_said_in_elements_own_client(hospital: Hospital) -> None:
    offered = (
        "<wctp-MCR><wctp-MessageText>Bed 6?</wctp-MessageText><wctp-Choice>Coming</wctp-Choice>"
        "<wctp-Choice>Call me</wctp-Choice></wctp-MCR>"
    )
    url = f"{hospital.bridge.base_url}/intake/desk"

    async def say(document: str) -> str:
        async with aiohttp.ClientSession() as session, session.post(url, data=document.encode()) as answer:
            return await answer.text()

    async def until(said: str) -> None:
        async with asyncio.timeout(20):
            while f"<wctp-Alphanumeric>{said}</wctp-Alphanumeric>" not in await say(poll(poller="night")):
                await asyncio.sleep(0.1)

    async with Shift(hospital) as shift:
        lindqvist = await shift.element("lindqvist")
        await lindqvist.meet(hospital.bot)
        await lindqvist.entrusted()
        assert "wctp-Success" in await say(submit(offered, control='messageID="mcr-3"', sender="night"))
        page = await lindqvist.message("Bed 6?")
        await lindqvist.react(page.event_id, "2️⃣")
        await until("Call me")
        await lindqvist.say(page.room_id, "coming", in_reply_to=page.event_id)
        await until("Coming")
        await lindqvist.react(page.event_id, "✅")


async def test_whoever_writes_to_a_number_of_telnyxs_is_answered_once(
    hospital: Hospital, okafor: Clinician, provider: tuple[Api, str]
) -> None:
    api, _ = provider

    async def write(key: str, words: str, caller: str) -> None:
        payload = {"from": {"phone_number": caller}, "to": [{"phone_number": "+12025550199"}], "text": words}
        event = {"id": key, "event_type": "message.received", "payload": payload}
        body = json.dumps({"data": event})
        url = f"{hospital.bridge.base_url}/intake/ward"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=telnyx_headers(body)) as answer,
        ):
            assert answer.status == 200

    async def until(sent: int) -> None:
        async with asyncio.timeout(20):
            while len(api.sent) < sent:
                await asyncio.sleep(0.1)

    for _ in range(2):
        await write("e-1", "I feel faint", "+12025550100")
    await until(1)
    await write("e-1", "I feel faint", "+12025550100")
    await write("e-2", "So do I", "+12025550101")
    await until(2)
    await okafor.message("So do I")
    assert [sent.body["to"] for sent in api.sent] == ["+12025550100", "+12025550101"]


async def test_health_tells_of_a_channel_that_connects(hospital: Hospital) -> None:
    health = await hospital.bridge.health()
    assert health is not None
    assert health["parts"]["channel asterisk-door"] == "well"


async def test_nightbell_channels_tells_when_each_was_last_heard_of(
    hospital: Hospital, okafor: Clinician
) -> None:
    said = await hospital.bridge.command("channels")
    assert f"127.0.0.1 port {SNPP_PORT}" in said
    assert "state       well" in said
    assert said.count("last event  never") < said.count("last event")


async def test_nightbell_send_makes_a_page_on_every_kind_of_channel(
    hospital: Hospital, okafor: Clinician, exchange: Pbx
) -> None:
    await exchange.connected.wait()
    doors = [f"{kind}-door" for kind in CHANNEL_TYPES]
    for door in doors:
        await send(hospital, door, "--text", f"Sent to {door}.")
    for door in doors:
        await okafor.message(f"Sent to {door}.")


async def test_nightbell_send_makes_a_call_and_a_voicemail_that_is_heard(
    hospital: Hospital, okafor: Clinician, exchange: Pbx
) -> None:
    await send(hospital, "twilio-door", "--kind", "missed_call", "--to", "+15554567890")
    await okafor.message("+1 555-456-7890")
    await send(hospital, "asterisk-door", "--kind", "voicemail", "--to", "4711", "--text", "A tone")
    page = await okafor.message("A tone")
    below = {"event_id": page.event_id, "rel_type": "m.thread"}
    await okafor.wait_for(
        lambda: any(
            m.content["msgtype"] == "m.audio" and below.items() <= m.content["m.relates_to"].items()
            for m in okafor.messages
            if m.room_id == page.room_id and "m.relates_to" in m.content
        )
    )


async def test_nightbell_send_says_what_a_channel_can_not_make(hospital: Hospital) -> None:
    with pytest.raises(AssertionError, match="of kannel there are test events of kind text"):
        await send(hospital, "kannel-door", "--kind", "voicemail")


async def send(hospital: Hospital, *words: str) -> None:
    """`nightbell send` in this process: the same program, without the second that another one takes to start."""
    app = typer.Typer()
    app.command()(send_command)
    command = (*words, "--config", str(hospital.bridge.config))
    ended = await asyncio.to_thread(CliRunner().invoke, app, command, env=hospital.bridge.environment)
    assert ended.exit_code == 0, ended.output


async def test_nightbell_capture_records_raw_traffic_and_shows_it_to_an_administrator(
    hospital: Hospital,
) -> None:
    by = ("--by", "@operator:nightbell.test")
    await hospital.bridge.command("capture", "pagers", *by, "--for", "1 min")
    async with asyncio.timeout(30):
        while "MESS Captured" not in await hospital.bridge.command("capture", "pagers", *by, "--show"):
            await hospital.bridge.command("send", "pagers", "--text", "Captured")
    with pytest.raises(CommandFailedError, match="not among administrators"):
        await hospital.bridge.command("capture", "pagers", "--by", "@mallory:nightbell.test", "--show")
    await hospital.bridge.command("capture", "pagers", *by, "--destroy")
    with pytest.raises(CommandFailedError, match="nothing was recorded of pagers"):
        await hospital.bridge.command("capture", "pagers", *by, "--show")
