"""Calls of an Asterisk: captured streams, and a small manager interface that replays them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.channels import asterisk
from bridge.channels.ami import Message, parse_message, read_message
from bridge.channels.calls import Board, Call
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels.wire import AMI_SECRET, ASTERISK, RememberingInbox, opened

CAPTURES = Path(__file__).parent / "captures" / "asterisk"
ABANDON = (CAPTURES / "queue_abandon.ami.txt").read_bytes()
VOICEMAIL = (CAPTURES / "voicemail_left.ami.txt").read_bytes()
# What each captured stream is: the kinds of its pages.
STREAMS = {path.name.partition(".")[0]: path.read_bytes() for path in sorted(CAPTURES.glob("*.ami.txt"))}
PAGES = {
    "queue_abandon": [EventKind.ABANDONED_CALL],
    "voicemail_left": [EventKind.VOICEMAIL, EventKind.VOICEMAIL],
}


def messages(stream: bytes) -> list[Message]:
    return [parse_message(block) for block in stream.split(b"\r\n\r\n") if block]


def ended(stream: Iterable[Message]) -> list[Call]:
    board = Board()
    return [call for message in stream for call in board.hear(message)]


def said(event: str, channel: str = "1", linkedid: str = "1", **fields: str) -> Message:
    return {"event": event, "uniqueid": channel, "linkedid": linkedid} | fields


def one_call(*facts: Message) -> Call:
    begin = said("Newchannel", calleridnum="+15550001111", context="inbound", exten="600")
    [call] = ended([begin, *facts, said("Hangup")])
    return call


JOIN = said("QueueCallerJoin", queue="heart")
ABANDONED = said("QueueCallerAbandon", holdtime="3")
TIMEOUT = said("VarSet", variable="QUEUESTATUS", value="TIMEOUT")
ENTER_VOICEMAIL = said("Newexten", application="VoiceMail")
LEFT = said("MessageWaiting", mailbox="100@default", waiting="1", new="2")
CONNECT = said("AgentConnect")


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream_gives_exactly_its_pages(name: str) -> None:
    kinds = [call.kind for call in ended(messages(STREAMS[name]))]
    assert [kind for kind in kinds if kind] == PAGES.get(name, [])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PAGES)), st.lists(st.integers(1, 4000), min_size=1, max_size=40))
async def test_a_stream_in_whatever_fragments_is_the_same_stream(name: str, sizes: list[int]) -> None:
    stream = STREAMS[name]
    reader = asyncio.StreamReader()
    got: list[Message] = []

    async def read() -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                got.append(await read_message(reader))

    reading = asyncio.ensure_future(read())
    at = count = 0
    while at < len(stream):
        size = sizes[count % len(sizes)]
        reader.feed_data(stream[at : at + size])
        at, count = at + size, count + 1
        await asyncio.sleep(0)
    reader.feed_eof()
    await reading
    assert got == messages(stream)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ([JOIN, ABANDONED], EventKind.ABANDONED_CALL),
        ([JOIN, ABANDONED, TIMEOUT], EventKind.MISSED_CALL),
        ([JOIN, ABANDONED, TIMEOUT, ENTER_VOICEMAIL, LEFT], EventKind.VOICEMAIL),
        ([JOIN, ABANDONED, TIMEOUT, ENTER_VOICEMAIL], EventKind.MISSED_CALL),
        ([JOIN, said("VarSet", variable="QUEUESTATUS", value="JOINEMPTY")], EventKind.MISSED_CALL),
        ([JOIN], EventKind.MISSED_CALL),
        ([JOIN, CONNECT], None),
        ([JOIN, CONNECT, JOIN, ABANDONED], EventKind.ABANDONED_CALL),
        ([JOIN, ABANDONED, TIMEOUT, said("DialEnd", dialstatus="ANSWER")], None),
        ([said("DialEnd", dialstatus="NOANSWER")], EventKind.MISSED_CALL),
        ([said("DialEnd", dialstatus="NOANSWER"), said("DialEnd", dialstatus="ANSWER")], None),
        ([LEFT], None),
        ([ENTER_VOICEMAIL, said("VarSet", variable="VMSTATUS", value="SUCCESS")], EventKind.VOICEMAIL),
        ([ENTER_VOICEMAIL, said("VarSet", variable="VMSTATUS", value="USEREXIT")], EventKind.MISSED_CALL),
        ([said("UserEvent", userevent="Nightbell", priority="stat")], EventKind.MISSED_CALL),
        ([said("UserEvent", userevent="IvrDigits", digits="1")], None),
        ([], None),
    ],
)
def test_a_call_is_what_became_of_it_at_its_end(facts: list[Message], kind: EventKind | None) -> None:
    assert one_call(*facts).kind == kind


def test_an_empty_message_is_a_missed_call() -> None:
    recorded = {"event": "VarSet", "variable": "VM_DUR", "value": "0:00", "uniqueid": "none"}
    done = said("VarSet", variable="VMSTATUS", value="SUCCESS")
    assert one_call(ENTER_VOICEMAIL, recorded, LEFT, done).kind == EventKind.MISSED_CALL


def test_a_call_has_ended_only_when_its_last_channel_has() -> None:
    board = Board()
    for channel in ("1", "2", "3"):
        assert not board.hear(said("Newchannel", channel))
    assert not board.hear(said("Hangup", "1"))
    assert not board.hear(said("Hangup", "3"))
    assert len(board.hear(said("Hangup", "2"))) == 1


def test_a_channel_that_joins_another_call_leaves_its_own() -> None:
    board = Board()
    board.hear(said("Newchannel", "1", "1"))
    board.hear(said("Newchannel", "2", "2"))
    assert [call.linkedid for call in board.hear(said("Newstate", "2", "1"))] == ["2"]
    assert not board.hear(said("Hangup", "1", "1"))
    assert [call.linkedid for call in board.hear(said("Hangup", "2", "1"))] == ["1"]


def test_pressed_digits_are_kept() -> None:
    pressed = [said("DTMFEnd", digit=digit, direction="Received") for digit in "12#"]
    assert one_call(*pressed, said("DTMFEnd", digit="9", direction="Sent")).digits == "12#"


def test_no_more_calls_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.channels.calls.MAX_CALLS", 3)
    board = Board()
    forgotten = [call.linkedid for n in range(5) for call in board.hear(said("Newchannel", str(n), str(n)))]
    assert (forgotten, len(board.calls)) == (["0", "1"], 3)


names = st.sampled_from(
    [
        "Newchannel",
        "Newstate",
        "Hangup",
        "QueueCallerJoin",
        "MessageWaiting",
        "VarSet",
        "UserEvent",
        "DTMFEnd",
        "DialEnd",
    ]
)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            names,
            st.sampled_from("123"),
            st.sampled_from("123"),
            st.dictionaries(
                st.sampled_from(["variable", "value", "new", "waiting", "digit", "direction", "queue"]),
                st.text(max_size=5),
            ),
        )
    )
)
def test_no_order_of_events_breaks_the_board(
    events: list[tuple[str, str, str, dict[str, str]]],
) -> None:
    board = Board()
    for name, channel, linkedid, fields in events:
        board.hear(said(name, channel, linkedid, **fields))
    board.only_these_go_on([])
    assert not board.calls


@given(st.binary())
def test_no_bytes_break_the_parser(block: bytes) -> None:
    assert isinstance(parse_message(block), dict)


@dataclass
class Pbx:
    """A manager interface: it lets the bridge in, answers its questions, and says what it is told to say."""

    answers: dict[str, bytes] = field(default_factory=dict)
    secret: str = AMI_SECRET
    port: int = 0
    logins: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Asterisk Call Manager/13.0.0\r\n")
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                action = await read_message(reader)
                writer.write(self.answer(action))
                if action["action"] == "VoicemailUsersList":
                    self.connected.set()

    def answer(self, action: Message) -> bytes:
        name, number = action["action"], action.get("actionid", "")
        if name == "Challenge":
            return reply("Success", number, "Challenge: 577658150\r\n")
        if name == "Login":
            self.logins += 1
            right = hashlib.md5(b"577658150" + self.secret.encode()).hexdigest()  # noqa: S324 - AMI's
            good = action.get("key") == right or action.get("secret") == self.secret
            return reply("Success" if good else "Error", number)
        if name in self.answers:
            return self.answers[name]
        return reply("Success", number) + (
            b"Event: CoreShowChannelsComplete\r\n\r\n" if name == "CoreShowChannels" else b""
        )

    async def hang_up(self) -> None:
        self.connected.clear()
        for writer in self.writers:
            writer.close()
        self.writers.clear()


def reply(response: str, number: str, more: str = "") -> bytes:
    return f"Response: {response}\r\nActionID: {number}\r\n{more}\r\n".encode()


@asynccontextmanager
async def pbx(made: Pbx) -> AsyncIterator[Pbx]:
    server = await asyncio.start_server(made.talk, "127.0.0.1", made.port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.hang_up()


@asynccontextmanager
async def bridged(
    made: Pbx, inbox: RememberingInbox, section: str = ASTERISK
) -> AsyncIterator[list[str | None]]:
    """The bridge, connected; yields what operations are told."""
    told: list[str | None] = []

    async def tell(_: ChannelId, trouble: str | None) -> None:
        told.append(trouble)

    channel = opened(section.replace("PORT", str(made.port)), inbox, tell=tell)
    assert channel.serve is not None
    serving = asyncio.ensure_future(channel.serve())
    try:
        yield told
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asterisk, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(asterisk, "LONGEST_PAUSE", 0.05)


@pytest.mark.parametrize("login", ["md5", "plain"])
async def test_an_abandoned_call_comes_in_over_the_wire(inbox: RememberingInbox, login: str) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox, f"{ASTERISK}login: {login}\n") as told:
        await made.connected.wait()
        made.writers[0].write(ABANDON)
        await until(lambda: bool(inbox.events))
    assert told == [None]
    assert inbox.events == [
        IntakeEvent(
            channel=ChannelId("door"),
            key=Phi("pbx1-1795492857.3"),
            kind=EventKind.ABANDONED_CALL,
            body=Phi(""),
            caller=Phi("+15550001111"),
            caller_name=Phi("Maria Lopez"),
            called=Phi("602"),
            queue=Phi("nobody"),
            occurred_at=datetime(2026, 11, 24, 4, 0, 57, tzinfo=UTC),
            attributes={"waited_seconds": Phi("3")},
        )
    ]


async def test_voicemails_come_in_over_the_wire(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(VOICEMAIL)
        await until(lambda: len(inbox.events) == 2)
    assert [(event.caller, event.caller_name, event.recipient) for event in inbox.events] == [
        (Phi("+15550001111"), Phi("Maria Lopez"), Phi("100@default")),
        (Phi("+34911222333"), Phi("José Ñandú"), Phi("101@default")),
    ]


async def test_a_replayed_stream_is_the_same_calls(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(VOICEMAIL + ABANDON + VOICEMAIL + ABANDON)
        await until(lambda: len(inbox.events) == 3)
        await asyncio.sleep(0.05)
    assert len(inbox.events) == 3


async def test_calls_that_begin_in_another_context_are_no_pages(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox, f"{ASTERISK}contexts: [outside]\n"):
        await made.connected.wait()
        made.writers[0].write(ABANDON + ABANDON.replace(b"inbound", b"outside").replace(b"pbx1", b"pbx2"))
        await until(lambda: bool(inbox.events))
    assert [event.key for event in inbox.events] == [Phi("pbx2-1795492857.3")]


async def test_the_dialplan_can_make_a_page_of_a_call(inbox: RememberingInbox) -> None:
    call = [
        b"Event: Newchannel\r\nUniqueid: 1\r\nLinkedid: 1\r\nCallerIDNum: 5550001111\r\nContext: inbound",
        (
            b"Event: UserEvent\r\nUserEvent: Nightbell\r\nUniqueid: 1\r\nLinkedid: 1\r\n"
            b"Priority: STAT\r\nRecipient: cardiology\r\nBody: pressed 1"
        ),
        b"Event: Hangup\r\nUniqueid: 1\r\nLinkedid: 1",
    ]
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(b"".join(each + b"\r\n\r\n" for each in call))
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.priority, event.recipient, event.body) == (
        Priority.STAT,
        Phi("cardiology"),
        Phi("pressed 1"),
    )
    assert event.caller == Phi("+15550001111")


async def test_a_call_that_ended_while_the_connection_was_away_is_missed(inbox: RememberingInbox) -> None:
    waiting = ABANDON[: ABANDON.index(b"Event: HangupRequest")]
    async with pbx(Pbx()) as made, bridged(made, inbox) as told:
        await made.connected.wait()
        made.writers[0].write(waiting)
        await asyncio.sleep(0.05)
        await made.hang_up()
        await until(lambda: bool(inbox.events))
    assert [event.kind for event in inbox.events] == [EventKind.MISSED_CALL]
    assert told == [None, "Asterisk closed the connection", None]


async def test_a_call_that_still_waits_after_the_connection_was_away_goes_on(inbox: RememberingInbox) -> None:
    cut = ABANDON.index(b"Event: HangupRequest")
    there = b"".join(
        f"Event: CoreShowChannel\r\nUniqueid: pbx1-{channel}\r\nLinkedid: pbx1-1795492857.3\r\n\r\n".encode()
        for channel in ("1795492857.3", "1795492858.4", "1795492858.5")
    )
    answers = {"CoreShowChannels": there + b"Event: CoreShowChannelsComplete\r\n\r\n"}
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(ABANDON[:cut])
        await asyncio.sleep(0.05)
        made.answers = answers
        await made.hang_up()
        await made.connected.wait()
        made.writers[0].write(ABANDON[cut:])
        await until(lambda: bool(inbox.events))
    assert [event.kind for event in inbox.events] == [EventKind.ABANDONED_CALL]


async def test_messages_left_while_the_connection_was_away_are_found(inbox: RememberingInbox) -> None:
    def counted(count: int) -> dict[str, bytes]:
        entry = f"Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: {count}"
        return {"VoicemailUsersList": f"{entry}\r\n\r\n".encode()}

    async with pbx(Pbx(counted(1))) as made, bridged(made, inbox):
        await made.connected.wait()
        await asyncio.sleep(0.05)
        assert not inbox.events
        made.answers = counted(3)
        await made.hang_up()
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.recipient, event.attributes["messages"]) == (Phi("100@default"), Phi("2"))


async def test_a_call_waits_for_the_database(inbox: RememberingInbox) -> None:
    inbox.away = True
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(ABANDON)
        await asyncio.sleep(0.1)
        inbox.away = False
        await until(lambda: bool(inbox.events))


async def test_a_refused_login_is_told_once_and_tried_again_ever_less_often(inbox: RememberingInbox) -> None:
    async with pbx(Pbx(secret="another")) as made, bridged(made, inbox) as told:
        await until(lambda: made.logins >= 3)
        assert told == ["Asterisk refused the login: check username, secret, and permit in manager.conf"]
        made.secret = AMI_SECRET
        await made.connected.wait()
        await until(lambda: told[-1] is None)
    assert made.logins < 30


async def test_a_missing_permission_is_told_and_the_connection_stays(inbox: RememberingInbox) -> None:
    denied = reply("Error", "CoreShowChannels", "Message: Permission denied\r\n")
    async with pbx(Pbx({"CoreShowChannels": denied})) as made, bridged(made, inbox) as told:
        await until(lambda: len(told) == 2)
        made.writers[0].write(ABANDON)
        await until(lambda: bool(inbox.events))
    assert str(told[1]).startswith("Asterisk does not allow CoreShowChannels")


async def test_a_shutdown_is_told_and_waited_out(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox) as told:
        await made.connected.wait()
        made.writers[0].write(STREAMS["shutdown"])
        await until(lambda: len(told) >= 3)
    assert told[:3] == [None, "Asterisk ended the connection", None]


async def test_an_asterisk_that_falls_silent_is_asked_and_left(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk, "QUIET_SECONDS", 0.05)
    async with pbx(Pbx({"Ping": b""})) as made, bridged(made, inbox) as told:
        await until(lambda: "Asterisk does not answer" in told)


async def test_an_asterisk_that_is_not_there_is_told(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made:
        pass
    async with bridged(made, inbox) as told:
        await until(lambda: bool(told))
    assert told == ["Asterisk can't be reached (ConnectionRefusedError)"]


async def test_what_does_not_speak_ami_is_left(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk, "MAX_MESSAGE", 1024)
    async with pbx(Pbx({"CoreShowChannels": b"x" * 9000})) as made, bridged(made, inbox) as told:
        await until(lambda: "what answers does not speak AMI" in told)
