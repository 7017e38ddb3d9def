"""Pages from paging clients: Net::SNPP and HylaFAX's sendpage, and what a hand can type."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.channels import snpp, tcp
from bridge.channels.channel import Surroundings
from bridge.channels.snpp import SnppSettings
from bridge.model.doors import Receipt
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.model.progress import Progress
from bridge.model.report import Answered, Standing
from testbed.process import free_port
from tests.channels.wire import SNPP, RememberingInbox, listening, reachable

DOOR = ChannelId("door")
AT = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
DIALOGS = (Path(__file__).parent / "captures" / "snpp_dialogs.txt").read_text()
WITH_PASSWORD = f"{SNPP}secrets: env:TEST_KANNEL_SECRET\n"


@pytest_asyncio.fixture
async def port(inbox: RememberingInbox) -> AsyncIterator[int]:
    async with listening(SNPP, inbox) as port:
        yield port


async def say(port: int, *lines: str | bytes, host: str = "127.0.0.1") -> list[str]:
    """All that is answered to some lines, greeting and goodbye included."""
    reader, writer = await asyncio.open_connection(host, port)
    for line in lines:
        writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")
    try:
        answered = await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        answered = b""
    writer.close()
    return answered.decode().splitlines()


def codes(answers: list[str]) -> str:
    return " ".join(answer[:3] for answer in answers)


async def run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    return await asyncio.wait_for(process.wait(), 20)


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_page_becomes_an_intake_event(port: int, inbox: RememberingInbox) -> None:
    answers = await say(
        port, "PAGE cardiology 1234", "CALL +1 555 000 1111", "LEVE 0", "MESS Call room 12", "SEND", "QUIT"
    )
    assert codes(answers) == "220 250 250 250 250 250 221"
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=only(inbox).key,
        kind=EventKind.PAGE,
        body=Phi("Call room 12"),
        caller=Phi("+15550001111"),
        recipient=Phi("cardiology"),
        priority=Priority.URGENT,
    )


@pytest.mark.parametrize("session", [0, 3, 4], ids=["Net::SNPP", "sendpage, numeric", "sendpage, text"])
async def test_a_captured_dialog_gives_its_page(port: int, inbox: RememberingInbox, session: int) -> None:
    lines = re.findall("C: '(.*)'", DIALOGS.split("--- session")[1:][session])
    answers = await say(port, *lines, "QUIT")
    assert "250 Page sent" in answers
    bodies = {0: "Call Dr Smith x12 second line", 3: "", 4: "Subj\nCode blue room 12 — café"}
    assert (only(inbox).recipient, only(inbox).body) == (Phi("5551234"), Phi(bodies[session]))


@pytest.mark.skipif(
    not Path("/usr/share/perl5/Net/SNPP.pm").exists(), reason="libnet-snpp-perl is not installed"
)
async def test_net_snpp_sends_pages(port: int, inbox: RememberingInbox) -> None:
    script = """
        my $snpp = Net::SNPP->new("127.0.0.1", Port => shift) or die;
        $snpp->send(Pager => "5551234", Message => "Call Dr Smith", Alert => 1) or die $snpp->message;
        $snpp->pager_id("cardiology") or die $snpp->message;
        $snpp->data("line one\\n", ".dotted line\\n", "last\\n") or die $snpp->message;
        $snpp->command("SEND")->response() == 2 or die $snpp->message;
        $snpp->quit;
    """
    assert await run("perl", "-MNet::SNPP", "-e", script, str(port)) == 0
    assert [(event.recipient, event.body) for event in inbox.events] == [
        (Phi("5551234"), Phi("Call Dr Smith")),
        (Phi("cardiology"), Phi("line one\n.dotted line\nlast")),
    ]


@pytest.mark.skipif(not Path("/usr/bin/sendpage").exists(), reason="hylafax-client is not installed")
async def test_hylafax_sendpage_sends_pages(port: int, inbox: RememberingInbox) -> None:
    command = ("sendpage", "-h", f"127.0.0.1:{port}", "-s", "Subj", "-p", "5551234", "Code blue — café")
    assert await run(*command) == 0
    assert (only(inbox).recipient, only(inbox).body) == (Phi("5551234"), Phi("Subj\nCode blue — café"))


# Everything of level 3 but RTYP, for which Net::SNPP writes the number of its arguments.
TWO_WAY = """
    my $snpp = Net::SNPP->new("127.0.0.1", Port => shift) or die;
    $snpp->two_way or die $snpp->message;
    $snpp->ping("cardiology") or die $snpp->message;
    $snpp->noqueue or die $snpp->message;
    $snpp->expire_time(4) or die $snpp->message;
    $snpp->read_ack(1) or die $snpp->message;
    $snpp->command("RTYP", "MULTICHOICE")->response() == 2 or die $snpp->message;
    $snpp->message_response("01", "Yes, coming") or die $snpp->message;
    $snpp->message_response("02", "No") or die $snpp->message;
    $snpp->pager_id("cardiology") or die $snpp->message;
    $snpp->data("Bed 7?") or die $snpp->message;
    my ($tag, $pass, $text, $response) = $snpp->send_two_way;
    print join("|", $snpp->code, $response, $tag, $pass), "\\n";
    my @status = $snpp->message_status($tag, $pass);
    print join("|", @status), "\\n";
    $snpp->quit;
"""


@pytest.mark.skipif(
    not Path("/usr/share/perl5/Net/SNPP.pm").exists(), reason="libnet-snpp-perl is not installed"
)
async def test_net_snpp_asks_for_what_was_answered(inbox: RememberingInbox) -> None:
    standing = Standing(Progress.READ, AT, (Answered(Phi("02"), 1, AT),))
    known: list[IntakeId] = []

    async def ask(_channel: ChannelId, intake: IntakeId) -> Standing | None:
        known.append(intake)
        return replace(standing, event=only(inbox))

    accept = inbox.accept

    async def under_a_real_id(event: IntakeEvent) -> Receipt:
        return replace(await accept(event), intake=IntakeId("0" * 15 + "7" + "f" * 16))

    inbox.accept = under_a_real_id  # type: ignore[method-assign]
    async with listening(SNPP, inbox, standing=ask) as port:
        process = await asyncio.create_subprocess_exec(
            "perl", "-MNet::SNPP", "-e", TWO_WAY, str(port), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    sent, status = said.decode().splitlines()
    assert sent == f"960|9|7|{2**64 - 1}"
    assert status == "1|20261124031200|+0000|02|888"
    assert known == [IntakeId("0" * 15 + "7" + "f" * 16)]
    assert only(inbox).body == Phi("Bed 7?\n1️⃣ Yes, coming\n2️⃣ No")
    assert only(inbox).attributes["choice_replies"] == Phi("01\n02")


@pytest.mark.parametrize(
    ("asked", "progress", "answers", "code"),
    [
        ({}, Progress.QUEUED, (), "960"),
        ({}, Progress.DELIVERED, (), "880"),
        ({"read_ack": "1"}, Progress.DELIVERED, (), "860"),
        ({"answers": "text"}, Progress.DELIVERED, (), "861"),
        ({"answers": "text"}, Progress.READ, (), "870"),
        ({}, Progress.READ, (), "881"),
        ({"answers": "text"}, Progress.READ, ("On my\nway",), "889"),
        ({"answers": "choice", "reply_codes": "1"}, Progress.READ, ("01",), "888"),
    ],
)
async def test_each_status_has_its_code(
    inbox: RememberingInbox, asked: dict[str, str], progress: Progress, answers: tuple[str, ...], code: str
) -> None:
    attributes = {name: Phi(value) for name, value in asked.items()}
    event = IntakeEvent(ChannelId("door"), Phi("1"), EventKind.PAGE, Phi(""), attributes=attributes)
    answered = tuple(Answered(Phi(words), None, AT) for words in answers)

    async def ask(_channel: ChannelId, _intake: IntakeId) -> Standing | None:
        return Standing(progress, AT, answered, event)

    async with listening(SNPP, inbox, standing=ask) as port:
        _, status, _ = await say(port, "MSTA 1 2", "QUIT")
    assert status.startswith(f"{code} {len(answers)} 20261124031200+0000 ")
    assert not answers or status.endswith(answers[0].replace("\n", " "))


async def test_a_tag_that_is_killed_is_known_no_more_and_its_page_goes_on(inbox: RememberingInbox) -> None:
    dropped: set[IntakeId] = set()

    async def ask(_channel: ChannelId, intake: IntakeId) -> Standing | None:
        return None if intake in dropped else Standing(Progress.QUEUED, AT)

    async def drop(_channel: ChannelId, intake: IntakeId) -> None:
        dropped.add(intake)

    async with listening(SNPP, inbox, standing=ask, drop=drop) as port:
        assert codes(await say(port, "KTAG 1 2", "MSTA 1 2", "MSTA 1 3", "QUIT")) == "220 250 550 960 221"


async def test_what_became_of_a_page_is_told_only_after_the_login(inbox: RememberingInbox) -> None:
    async with listening(WITH_PASSWORD, inbox) as port:
        assert codes(await say(port, "MSTA 1 2", "KTAG 1 2", "QUIT")) == "220 550 550 221"


async def test_a_page_to_several_pagers_is_an_event_for_each(port: int, inbox: RememberingInbox) -> None:
    await say(port, "PAGE one", "PAGE two", "MESS x", "SEND", "QUIT")
    assert [event.recipient for event in inbox.events] == [Phi("one"), Phi("two")]


async def test_a_message_of_several_lines_keeps_its_dots(port: int, inbox: RememberingInbox) -> None:
    await say(port, "PAGE 1", "DATA", "one", "..two", "...", ".three", ".", "SEND", "QUIT")
    assert only(inbox).body == Phi("one\n.two\n..\n.three")


async def test_the_same_page_is_taken_once_within_a_minute_and_again_after_it_though_the_clock_was_set_back(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = 1000.0
    monkeypatch.setattr(snpp, "monotonic", lambda: steady)
    async with listening(SNPP, inbox, now=lambda: AT) as port:
        for _ in range(2):
            assert "250 Page sent" in await say(port, "PAGE 1", "MESS x", "SEND", "QUIT")
        assert len(inbox.events) == 1
        steady += 60
        assert "250 Page sent" in await say(port, "PAGE 1", "MESS x", "SEND", "QUIT")
        assert len(inbox.events) == 2


async def test_commands_in_any_case_and_at_full_length_are_understood(
    port: int, inbox: RememberingInbox
) -> None:
    await say(port, "pager 1", "Message hello", "send", "quit")
    assert only(inbox).body == Phi("hello")


async def test_latin_1_is_read(port: int, inbox: RememberingInbox) -> None:
    await say(port, "PAGE 1", b"MESS caf\xe9", "SEND", "QUIT")
    assert only(inbox).body == Phi("café")


async def test_a_time_to_hold_until_is_told_and_not_waited_for(port: int, inbox: RememberingInbox) -> None:
    await say(port, "PAGE 1", "HOLD 261124051210 +0000", "SEND", "QUIT")
    assert only(inbox).attributes == {"hold": Phi("261124051210 +0000")}


@pytest.mark.parametrize(
    ("lines", "answered"),
    [
        (["SITE HELP NOTIFY"], "502"),
        (["XYZZY"], "500"),
        (["ACKR 1"], "503"),
        (["2WAY", "ACKR 2"], "250 550"),
        (["2WAY", "RTYP LOUD"], "250 550"),
        (["2WAY", "EXPT soon"], "250 550"),
        (["2WAY", "MCRE 123 x", "MCRE 1"], "250 550 550"),
        (["2WAY", "MCRE 1 x", "MCRE 1 y"], "250 250 503"),
        (["2WAY", "PAGE 1", "PAGE 2"], "250 250 552"),
        (["PAGE 1", "2WAY"], "250 503"),
        (["PING"], "550"),
        (["MSTA 1 2", "MSTA x", f"MSTA {2**64} 1", "KTAG 1 2"], "550 550 550 550"),
        (["SEND"], "503"),
        (["PAGE"], "550"),
        (["LEVE high"], "550"),
        (["HOLD tomorrow"], "550"),
        (["MESS one", "MESS two"], "250 503"),
        (["MESS one", "DATA"], "250 503"),
        (["PAGE 1", "RESE", "SEND"], "250 250 503"),
        (["PAGE 1"] * 17, "250 " * 16 + "552"),
        (["HELP"], "214"),
        ([""], "500"),
    ],
)
async def test_what_makes_no_page_gets_its_code(
    port: int, inbox: RememberingInbox, lines: list[str], answered: str
) -> None:
    assert codes(await say(port, *lines, "QUIT")) == f"220 {answered} 221"
    assert not inbox.events


async def test_the_password_is_asked_for_where_there_is_one(inbox: RememberingInbox) -> None:
    async with listening(WITH_PASSWORD, inbox) as port:
        assert codes(await say(port, "PAGE 1", "LOGI desk wrong", "PAGE 1", "QUIT")) == "220 550 550 550 221"
        answers = await say(port, "LOGI desk kannel-secret", "PAGE 1", "SEND", "RESE", "PAGE 2", "QUIT")
        assert codes(answers) == "220 250 250 250 250 250 221"
    assert len(inbox.events) == 1


async def test_the_client_hears_that_the_database_is_away(port: int, inbox: RememberingInbox) -> None:
    inbox.away = True
    assert codes(await say(port, "PAGE 1", "SEND", "QUIT")) == "220 250 554 221"


async def test_another_address_is_turned_away(inbox: RememberingInbox) -> None:
    async with listening(SNPP.replace("127.0.0.1", "10.0.0.1"), inbox) as port:
        assert codes(await say(port)) == "421"


async def test_who_is_slow_makes_room_and_is_told_so(port: int, inbox: RememberingInbox) -> None:
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(tcp.MAX_OF_ONE)]
    for reader, _ in waiting:
        await reader.readline()
    assert codes(await say(port, "PAGE 1", "MESS kept", "SEND", "QUIT")) == "220 250 250 250 221"
    assert only(inbox).body == Phi("kept")
    assert (await waiting[0][0].read()).startswith(b"421 Too many connections")
    for _, writer in waiting:
        writer.close()


async def test_connections_over_the_bound_are_turned_away_while_the_others_pages_are_kept(
    port: int, inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, released = asyncio.Semaphore(0), asyncio.Event()
    accept = inbox.accept

    async def slowly(event: IntakeEvent) -> Receipt:
        arrived.release()
        await released.wait()
        return await accept(event)

    monkeypatch.setattr(inbox, "accept", slowly)
    sending = [
        asyncio.create_task(say(port, "PAGE 1", f"MESS {number}", "SEND", "QUIT"))
        for number in range(tcp.MAX_OF_ONE)
    ]
    for _ in sending:
        await arrived.acquire()
    assert codes(await say(port)) == "421"
    released.set()
    assert {codes(each) for each in await asyncio.gather(*sending)} == {"220 250 250 250 221"}
    assert codes(await say(port, "QUIT")) == "220 221"


async def test_whose_time_is_up_is_told_so(inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(line: tcp.Line) -> None:
        while True:
            await line.hear(60)

    settings = SnppSettings(port=free_port(), peers=("127.0.0.1",))
    around = Surroundings(inbox, lambda: AT, "http://x")
    serving = asyncio.ensure_future(
        tcp.serve_lines(
            DOOR, settings, around, talk, refused=b"", full=b"", late=b"421 late\r\n", session_seconds=0.1
        )
    )
    await reachable(settings.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
    answer = asyncio.create_task(reader.readline())
    while not answer.done():
        writer.write(b"byte by byte\r\n")
        await asyncio.sleep(0.005)
    assert await answer == b"421 late\r\n"
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_line_that_comes_byte_by_byte_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snpp, "SILENT_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.readline()).startswith(b"220")
    answer = asyncio.create_task(reader.readline())
    while not answer.done():
        writer.write(b"x")
        await asyncio.sleep(0.005)
    assert (await answer).startswith(b"421 Nothing was said")
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_pages_over_the_rate_are_told_to_come_again_and_counted(inbox: RememberingInbox) -> None:
    outcomes: list[str] = []
    page = ["PAGE 1", "MESS one", "SEND", "PAGE 1", "MESS two", "SEND", "PAGE 1", "MESS three", "SEND"]
    async with listening(
        f"{SNPP}per_minute: 2\n", inbox, count=lambda _, outcome: outcomes.append(outcome)
    ) as port:
        said = await say(port, *page)
        turned_away = await say(port)
    assert [event.body for event in inbox.events] == [Phi("one"), Phi("two")]
    assert said[-1].startswith("421 Too many pages")
    assert turned_away[0].startswith("421 Too many connections")
    assert outcomes == ["accepted", "accepted", "too_many_pages", "too_many_connections"]


async def test_its_raw_traffic_can_be_listened_to(inbox: RememberingInbox) -> None:
    heard: list[tuple[str, bytes]] = []
    async with listening(SNPP, inbox, tap=lambda _, way, raw: heard.append((way, raw.reveal()))) as port:
        await say(port, "PAGE 1", "DATA", "one", ".", "QUIT")
    assert [raw.strip() for way, raw in heard if way == "<"] == [b"PAGE 1", b"DATA", b"one", b".", b"QUIT"]
    assert (">", b"221 Goodbye") in heard


async def test_a_silent_client_is_told_so(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snpp, "SILENT_SECONDS", 0.05)
    assert codes(await say(port)) == "220 421"


@pytest.mark.parametrize(
    "lines",
    [
        [b"MESS " + b"x" * tcp.MAX_LINE],
        ["DATA", *[b"x" * 4096] * 9],
        ["XYZZY"] * snpp.MAX_MISTAKES,
        ["HELP"] * snpp.MAX_COMMANDS,
    ],
    ids=["a long line", "a long message", "mistakes", "commands"],
)
async def test_who_goes_over_a_bound_is_sent_away(
    port: int, inbox: RememberingInbox, lines: list[str | bytes]
) -> None:
    answers = await say(port, *lines)
    assert not answers or answers[-1].startswith("421")
    assert codes(await say(port, "QUIT")) == "220 221"


words = st.sampled_from(
    [
        "PAGE",
        "MESS",
        "DATA",
        "SEND",
        "LEVE",
        "HOLD",
        "LOGI",
        "RESE",
        "SITE",
        ".",
        "",
        "2WAY",
        "MCRE 1",
        "RTYP",
        "MSTA 1",
        "KTAG",
    ]
)
lines = st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")) | st.builds(
    lambda word, rest: f"{word} {rest}".encode().replace(b"\n", b""),
    words,
    st.text(st.characters(codec="utf-8"), max_size=20),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(lines, max_size=9))
async def test_no_conversation_breaks_the_desk(said: list[bytes]) -> None:
    inbox = RememberingInbox()
    async with listening(SNPP, inbox) as port:
        answers = await say(port, *said, ".", "RESE", "PAGE 1", "MESS kept", "SEND", "QUIT")
    assert all(re.match("[2345][0-9]{2} ", answer) for answer in answers)
    assert answers[-1].startswith(("221", "421"))
    assert answers[-1].startswith("421") or inbox.events[-1].body == Phi("kept")
