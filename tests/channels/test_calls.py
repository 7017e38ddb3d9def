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
        ([JOIN, said("CoreShowChannel", bridgeid="b1")], None),
        ([JOIN, said("CoreShowChannel", bridgeid=""), ABANDONED], EventKind.ABANDONED_CALL),
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
