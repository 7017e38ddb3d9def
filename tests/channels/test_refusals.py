"""What doors that are no HTTP answer to what they refuse: fixed words, whatever was sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.channels import snpp
from bridge.channels.channel import Surroundings
from bridge.channels.tcp import may_be_said
from bridge.model.ids import ChannelId
from tests.channels.signers import PUBLIC_URL, utc_now
from tests.channels.wire import SMTP, SNPP, RememberingInbox, listening

WORD, NUMBER = "Quixana", "5558103746"
CANARIES = re.compile(rf"{WORD}|{NUMBER}|555.?810.?3746", re.IGNORECASE)

# Wherever a client can put words: as a command, as its argument, as an address, beside what is right.
wheres = st.sampled_from(
    [
        "{}",
        "{} {}",
        "{}:<{}>",
        "{}:{}",
        "{} FROM:<{}@{}>",
        "MAIL FROM:<{}@call.example> {}={}",
        "MAIL FROM:<{}@call.example>",
        "RCPT TO:<{}@pager.example>",
        "RCPT TO:<{}@{}>",
        "RCPT TO:<{}@pager.example> {}",
        "LOGI {} {}",
        "PAGE {} {}",
        "DATA\n{}\n.",
        "DATA",
        "DATA {}",
        "SEND {}",
        "MCRE {} {}",
        "MSTA {} {}",
    ]
)
commands = [*snpp._COMMANDS, "LOGI", "SITE", "MSTA", "KTAG"]
commands += ["HELO", "EHLO", "VRFY", "EXPN", "AUTH", "NOOP", "RSET", "STARTTLS", "MAIL", "RCPT", "BDAT"]
lines = st.builds(
    lambda where, words: where.format(*words),
    wheres
    | st.sampled_from(commands).map("{} {{}}".format)
    | st.sampled_from(commands).map("{} {{}} {{}}".format),
    st.lists(
        st.sampled_from([WORD, NUMBER, WORD.upper(), f"+1-{NUMBER}", f"{WORD}{NUMBER}"]),
        min_size=3,
        max_size=3,
    ),
)


async def answers(port: int, said: Iterable[str]) -> str:
    """All that a door answers to some lines, and to its own end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("".join(f"{line}\r\n".replace("\n", "\r\n") for line in [*said, ".", "QUIT"]).encode())
    try:
        return (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()


@pytest.mark.parametrize("section", [SMTP, SNPP], ids=["smtp", "snpp"])
@settings(max_examples=60, deadline=None)
@given(st.lists(lines, min_size=1, max_size=8))
async def test_no_answer_repeats_a_word_or_number_of_what_was_sent(section: str, said: list[str]) -> None:
    async with listening(section, RememberingInbox()) as port:
        told = await answers(port, said)
    assert told.startswith("220")
    assert CANARIES.findall(told) == []


async def test_what_the_library_would_repeat_is_refused_without_it(inbox: RememberingInbox) -> None:
    async with listening(SMTP, inbox) as port:
        told = await answers(port, ["Ann", "EHLO x", "VRFY Ann", "VRFY @Ann", "MAIL"])
    assert "Ann" not in told
    assert re.findall("^([0-9]{3}) ", told, re.MULTILINE) == [
        "220",
        "500",
        "250",
        "252",
        "252",
        "501",
        "500",
        "221",
    ]


@pytest.mark.parametrize("reply", ["550 No pager Quixana", "421 5558103746 is unknown", "552 555-810-3746"])
def test_a_careless_refusal_of_our_own_is_withheld(reply: str, inbox: RememberingInbox) -> None:
    around = Surroundings(inbox, utc_now, PUBLIC_URL)
    said = may_be_said(ChannelId("door"), around, reply)
    assert (said[:4], CANARIES.findall(said)) == (reply[:4], [])
