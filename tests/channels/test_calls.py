"""What became of a call, from captured streams and from what could be said in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.channels.ami import Message, parse_message, read_message
from bridge.channels.calls import Board, Call
from bridge.model.event import EventKind
from tests.channels.parsers import QUICK

CAPTURES = Path(__file__).parent / "captures" / "asterisk"
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
RING = said("DialBegin")
ANSWER = said("DialEnd", dialstatus="ANSWER")
OPERATOR = said("VarSet", variable="VMSTATUS", value="USEREXIT")
FAILED = said("VarSet", "2", variable="VMSTATUS", value="FAILED")


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream_gives_exactly_its_pages(name: str) -> None:
    kinds = [call.kind for call in ended(messages(STREAMS[name]))]
    assert [kind for kind in kinds if kind] == PAGES.get(name, [])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(1, 4000), min_size=1, max_size=40))
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
        ([JOIN, said("CoreShowChannel", bridgeid="b1")], None),
        ([JOIN, said("CoreShowChannel", bridgeid=""), ABANDONED], EventKind.ABANDONED_CALL),
        ([JOIN, CONNECT, JOIN, ABANDONED], EventKind.ABANDONED_CALL),
        ([JOIN, ABANDONED, TIMEOUT, said("DialEnd", dialstatus="ANSWER")], None),
        ([said("DialEnd", dialstatus="NOANSWER")], EventKind.MISSED_CALL),
        ([said("DialEnd", dialstatus="NOANSWER"), said("DialEnd", dialstatus="ANSWER")], None),
        # Transferred to somebody who does not answer, or does.
        ([JOIN, CONNECT, RING, said("DialEnd", dialstatus="NOANSWER")], EventKind.MISSED_CALL),
        ([JOIN, CONNECT, RING, said("DialEnd", dialstatus="CANCEL")], EventKind.MISSED_CALL),
        ([RING, ANSWER, RING, ANSWER], None),
        # An agent asks a colleague on a channel of their own; the losers of a ring group end after its winner.
        ([JOIN, CONNECT, said("DialBegin", "2"), said("DialEnd", "2", dialstatus="NOANSWER")], None),
        ([RING, RING, ANSWER, said("DialEnd", dialstatus="CANCEL")], None),
        # Forwarded: the telephone names another, which is rung instead.
        ([RING, said("DialEnd", dialstatus="CANCEL"), RING, ANSWER], None),
        ([RING], EventKind.MISSED_CALL),
        # Two queues, one after the other.
        ([JOIN, ABANDONED, TIMEOUT, JOIN, ABANDONED], EventKind.ABANDONED_CALL),
        ([JOIN, ABANDONED, TIMEOUT, JOIN, CONNECT], None),
        # Parked by whoever had it.
        ([JOIN, CONNECT, {"event": "ParkedCallGiveUp", "parkeeuniqueid": "1"}], EventKind.ABANDONED_CALL),
        # From a mailbox to an operator.
        ([ENTER_VOICEMAIL, OPERATOR, RING, ANSWER], None),
        ([ENTER_VOICEMAIL, OPERATOR, RING, said("DialEnd", dialstatus="NOANSWER")], EventKind.MISSED_CALL),
        ([ENTER_VOICEMAIL, LEFT, OPERATOR, RING, ANSWER], EventKind.VOICEMAIL),
        # An agent's telephone that is a mailbox has answered, and nobody has.
        (
            [JOIN, said("Newexten", "2", application="VoiceMail"), ANSWER, CONNECT, FAILED],
            EventKind.MISSED_CALL,
        ),
        ([said("CoreShowChannel", application="VoiceMail")], EventKind.MISSED_CALL),
        ([said("CoreShowChannel", application="Dial")], EventKind.MISSED_CALL),
        ([said("CoreShowChannel", application="Dial", bridgeid="b1")], None),
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


def mailed(mailbox: str, length: str) -> list[Message]:
    """What the mailer says of the message that it is about to tell of, on a channel of its own."""
    number, _, context = mailbox.partition("@")
    words = {"VM_DUR": length, "VM_CONTEXT": context, "VM_MAILBOX": number}
    return [{"event": "VarSet", "uniqueid": "none", "variable": v, "value": w} for v, w in words.items()]


def test_an_empty_message_is_a_missed_call() -> None:
    done = said("VarSet", variable="VMSTATUS", value="SUCCESS")
    assert one_call(ENTER_VOICEMAIL, *mailed("100@default", "0:00"), LEFT, done).kind == EventKind.MISSED_CALL
    assert one_call(ENTER_VOICEMAIL, *mailed("100@default", "0:01"), LEFT, done).kind == EventKind.VOICEMAIL


def test_the_length_of_another_message_empties_none() -> None:
    others, own = mailed("101@default", "0:00"), mailed("100@default", "0:05")
    mixed = [each for pair in zip(own, others, strict=True) for each in pair]
    for words in (others, mixed, own + others, others + own):
        call = one_call(ENTER_VOICEMAIL, *words, LEFT)
        assert (call.kind, call.length) == (EventKind.VOICEMAIL, "")


def test_each_call_has_its_own_recording() -> None:
    def file(call: str) -> Message:
        return said("VarSet", call, call, variable="VM_MESSAGEFILE", value=f"/spool/100/INBOX/msg000{call}")

    def each(event: str, **fields: str) -> list[Message]:
        return [said(event, call, call, **fields) for call in "12"]

    stream = [*each("Newchannel"), *each("Newexten", application="VoiceMail"), file("1"), file("2")]
    calls = ended([*stream, *each("MessageWaiting", mailbox="100@default", waiting="1"), *each("Hangup")])
    assert [call.file for call in calls] == ["msg0001", "msg0002"]


def test_a_message_is_known_by_there_being_more_even_if_nothing_told_that_the_caller_came_to_the_mailbox() -> (
    None
):
    board = Board()
    board.mailboxes["100@default"] = 1
    board.hear(said("CoreShowChannel"))
    board.hear(LEFT)
    assert [call.kind for call in board.hear(said("Hangup"))] == [EventKind.VOICEMAIL]


@pytest.mark.parametrize("data", ["100@heart,us", "100@heart&101@heart,us"])
def test_who_hung_up_at_a_mailbox_is_its_owners(data: str) -> None:
    entered = said("Newexten", application="VoiceMail", appdata=data)
    failed = said("VarSet", variable="VMSTATUS", value="FAILED")
    for end in ([], [failed]):
        call = one_call(entered, *end)
        assert (call.kind, call.mailbox) == (EventKind.MISSED_CALL, "100@heart")
    assert one_call(said("Newexten", application="VoiceMail", appdata="100")).mailbox == "100@default"
    assert one_call(entered, OPERATOR, RING).mailbox == ""
    assert one_call(entered, OPERATOR, JOIN, ABANDONED).mailbox == ""


def left_at(mailbox: str, length: str, file: str) -> list[Message]:
    recorded = said("VarSet", variable="VM_MESSAGEFILE", value=f"/spool/{file}")
    done = said("VarSet", variable="VMSTATUS", value="SUCCESS")
    waits = said("MessageWaiting", mailbox=mailbox, waiting="1", new="1")
    return [ENTER_VOICEMAIL, recorded, *mailed(mailbox, length), waits, done]


@pytest.mark.parametrize("then", [[], [ENTER_VOICEMAIL], left_at("102@default", "0:00", "msg0009")])
def test_each_message_that_a_call_leaves_is_told_of_and_what_follows_them_hides_none(
    then: list[Message],
) -> None:
    first, second = left_at("100@default", "0:05", "msg0001"), left_at("101@default", "0:07", "msg0000")
    stream = [said("Newchannel", calleridnum="+15550001111"), *first, *second, *then, said("Hangup")]
    assert [(call.key, call.kind, call.mailbox, call.file) for call in ended(stream)] == [
        ("1", EventKind.VOICEMAIL, "100@default", "msg0001"),
        ("1 2", EventKind.VOICEMAIL, "101@default", "msg0000"),
    ]


def test_a_message_for_two_mailboxes_is_one() -> None:
    copied = said("MessageWaiting", mailbox="200@default", waiting="1", new="1")
    stream = left_at("100@default", "0:05", "msg0001")
    stream.insert(2, copied)  # Asterisk tells of the copies first
    [call] = ended([said("Newchannel"), *stream, said("Hangup")])
    assert (call.kind, call.mailbox) == (EventKind.VOICEMAIL, "100@default")


def test_who_listens_to_a_mailbox_leaves_no_message() -> None:
    board = Board()
    board.mailboxes["100@default"] = 3
    board.hear(said("Newchannel"))
    board.hear(LEFT)
    assert [call.kind for call in board.hear(said("Hangup"))] == [None]


def test_a_call_has_ended_only_when_its_last_channel_has() -> None:
    board = Board()
    for channel in ("1", "2", "3"):
        assert not board.hear(said("Newchannel", channel))
    assert not board.hear(said("Hangup", "1"))
    assert not board.hear(said("Hangup", "3"))
    assert len(board.hear(said("Hangup", "2"))) == 1


def test_a_call_keeps_its_own_end_when_it_is_joined_to_another() -> None:
    """Bridged, both have the older Linkedid: an agent who has been logged in since the morning, a conference."""
    board = Board()
    board.hear(said("Newchannel", "1", "1"))
    for each in (
        said("Newchannel", "2", "2"),
        said("QueueCallerJoin", "2", "2"),
        said("AgentConnect", "2", "1"),
    ):
        assert not board.hear(each)
    assert not board.hear(said("Newstate", "2", "1"))
    assert [(call.linkedid, call.kind) for call in board.hear(said("Hangup", "2", "1"))] == [("2", None)]
    assert [call.linkedid for call in board.hear(said("Hangup", "1", "1"))] == ["1"]


def test_who_is_transferred_into_a_queue_in_which_an_agent_waits_for_them_and_gives_up_is_found() -> None:
    """The agent's second channel joined the queue under a Linkedid of its own, and has the caller's after it."""
    board = Board()
    for each in (
        said("Newchannel", "1", "1", calleridnum="+15550001111"),
        CONNECT,
        said("Newchannel", "2", "2", calleridnum="201"),
        said("QueueCallerJoin", "2", "2", queue="heart"),
        said("QueueCallerAbandon", "2", "1", holdtime="9"),
    ):
        board.hear(each)
    [call] = board.hear(said("Hangup", "1", "1"))
    assert (call.kind, call.caller, call.waited) == (EventKind.ABANDONED_CALL, "+15550001111", "9")


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
        "DialBegin",
        "DialEnd",
        "Newexten",
        "CoreShowChannel",
        "QueueEntry",
        "ParkedCallGiveUp",
    ]
)


@settings(max_examples=QUICK)
@given(
    st.lists(
        st.tuples(
            names,
            st.sampled_from("123"),
            st.sampled_from("123"),
            st.dictionaries(
                st.sampled_from(
                    [
                        "variable",
                        "value",
                        "new",
                        "waiting",
                        "digit",
                        "direction",
                        "queue",
                        "application",
                        "bridgeid",
                    ]
                ),
                st.text(max_size=5)
                | st.sampled_from(["VoiceMail", "VM_MESSAGEFILE", "VMSTATUS", "SUCCESS", "1"]),
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
