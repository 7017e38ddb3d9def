"""What reads the bytes of strangers: each as a function that raises if something is wrong, and real bytes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import cast

from bridge.channels.ami import parse_message
from bridge.channels.calls import Board
from bridge.channels.cdr import _parsed, calls_of
from bridge.channels.channel import Surroundings
from bridge.channels.rate import Rate
from bridge.channels.smtp import read_mail
from bridge.channels.snpp import _Desk, _talk
from bridge.channels.tcp import MAX_LINE, Line
from bridge.channels.wctp import _event, _version
from bridge.channels.wctp_poll import MOST, _verdicts, _wanted
from bridge.channels.xml import read_xml
from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from tests.channels.wire import RememberingInbox

CAPTURES = Path(__file__).parent / "captures"
DOOR = ChannelId("door")
NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
BOARD = Board()


class Said:
    """A writer that remembers, in the place of a connection's."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, data: bytes) -> None:
        self.lines += data.decode().splitlines()

    async def drain(self) -> None:
        await asyncio.sleep(0)


def hear_ami(data: bytes) -> None:
    BOARD.hear(parse_message(data))


def hear_snpp(data: bytes) -> None:
    """A conversation: each answer is one, and each page that was acknowledged is in the inbox."""

    async def talk() -> None:
        inbox, said = RememberingInbox(), Said()
        desk = _Desk(DOOR, (), None, Surroundings(inbox, lambda: NOW, "http://x"), Rate(1000), lambda: 0)
        reader = asyncio.StreamReader(limit=MAX_LINE)
        reader.feed_data(data)
        reader.feed_eof()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await _talk(desk, Line("peer", reader, cast("asyncio.StreamWriter", said), b""))
        assert all(re.match("[2-9][0-9]{2} ", line) for line in said.lines)
        assert ("250 Page sent" in said.lines) <= bool(inbox.events)
        for event in inbox.events:
            assert IntakeEvent.from_seal_form(event.seal_form()) == event

    _loop().run_until_complete(talk())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all conversations: there are many."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def read_wctp(data: bytes) -> None:
    """A document: what becomes an event can be kept, and comes back as it was."""
    root = read_xml(Phi(data))
    if root is None:
        return
    version = _version(root)
    for operation in root:
        if operation.tag in ("wctp-SubmitRequest", "wctp-MessageReply"):
            event = _event(DOOR, operation, version)
            assert event is None or IntakeEvent.from_seal_form(event.seal_form()) == event
        if operation.tag == "wctp-PollForMessages":
            assert 1 <= _wanted(operation.get("maxMessagesInBatch", "")) <= MOST
            assert all(0 <= number < 10**18 for number in _verdicts(operation))


def read_records(data: bytes) -> None:
    """Call records, whole and half written."""
    calls_of(_parsed(data + b"\n"), datetime(1970, 1, 1, tzinfo=UTC), NOW)


def seeds(pattern: str) -> list[bytes]:
    """Captured files."""
    return [path.read_bytes() for path in sorted(CAPTURES.glob(pattern))]


WCTP = [
    json.loads(line)["body"].encode("latin-1")
    for line in (CAPTURES / "php_wctp_posts.jsonl").read_text().splitlines()
]
POLL = (
    b'<wctp-Operation wctpVersion="1.3"><wctp-PollForMessages pollerID="a" securityCode="b" maxMessagesInBatch="9">'
    b'<wctp-MessageReceived sequenceNo="1"><wctp-Success successCode="200"/></wctp-MessageReceived>'
    b'<wctp-MessageReceived sequenceNo="2"><wctp-Failure errorCode="604"/></wctp-MessageReceived>'
    b"</wctp-PollForMessages></wctp-Operation>"
)
AMI = [block for stream in seeds("asterisk/*.ami.txt") for block in stream.split(b"\r\n\r\n")]
DIALOGS = [
    b"\r\n".join(re.findall(b"C: '(.*)'", dialog))
    for dialog in (CAPTURES / "snpp_dialogs.txt").read_bytes().split(b"--- session")
]
TWO_WAY = (
    b"2WAY\r\nRTYP MULTICHOICE\r\nMCRE 1 Yes\r\nPAGE 1\r\nDATA\r\nx\r\n.\r\nSEND\r\nMSTA 1 2\r\nKTAG 1 2\r\n"
)
LINES = (CAPTURES / "asterisk" / "Master.csv").read_bytes().splitlines(keepends=True)
PARSERS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "asterisk": (hear_ami, AMI),
    "call records": (read_records, LINES),
    "smtp": (lambda data: read_mail(Phi(data)), seeds("voicemail_mail/*.eml")),
    "snpp": (hear_snpp, [*DIALOGS, TWO_WAY]),
    "wctp": (read_wctp, [*WCTP, POLL]),
}
GUIDED = ("asterisk", "snpp", "wctp")  # those that atheris tries

# How many inputs each parser meets, as docs/doors.md says: in `make test`, every HTTP channel too; in the slow suite.
QUICK, LONG, BY_ATHERIS = 300, 20_000, 100_000
