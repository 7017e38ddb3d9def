"""What strangers may send, in numbers: 20,000 inputs for each parser that reads before it knows who speaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.channels.ami import parse_message
from bridge.channels.calls import Board
from bridge.channels.smtp import read_mail
from bridge.channels.snpp import decoded
from bridge.channels.wctp import _event, _version
from bridge.channels.xml import read_xml
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

pytestmark = pytest.mark.slow

CAPTURES = Path(__file__).parent / "captures"
BOARD = Board()


def hear(data: bytes) -> None:
    BOARD.hear(parse_message(data))


def submit(data: bytes) -> None:
    root = read_xml(Phi(data))
    if root is not None:
        version = _version(root)
        for operation in root:
            if operation.tag in ("wctp-SubmitRequest", "wctp-MessageReply"):
                _event(ChannelId("door"), operation, version)


def seeds(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CAPTURES.glob(pattern))]


WCTP = [
    json.loads(line)["body"].encode("latin-1")
    for line in (CAPTURES / "php_wctp_posts.jsonl").read_text().splitlines()
]
AMI = [block for stream in seeds("asterisk/*.ami.txt") for block in stream.split(b"\r\n\r\n")]
PARSERS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "AMI": (hear, AMI),
    "SNPP": (decoded, (CAPTURES / "snpp_dialogs.txt").read_bytes().splitlines()),
    "SMTP": (lambda data: read_mail(Phi(data)), seeds("voicemail_mail/*.eml")),
    "WCTP": (submit, WCTP),
}


@pytest.mark.parametrize("name", PARSERS)
def test_no_input_breaks_a_parser(name: str) -> None:
    parse, known = PARSERS[name]
    cut = st.integers(0, 4000)

    @settings(max_examples=20_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(known), cut, cut, st.binary(max_size=20))
    def run(seed: bytes, begin: int, end: int, noise: bytes) -> None:
        parse(seed[:begin] + noise + seed[end:])

    run()
