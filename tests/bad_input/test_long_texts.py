"""Whatever its length, a text fits into an event, and says what is left out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.engine import operations
from bridge.engine.messages import message, replacement
from bridge.model.phi import Phi
from bridge.policy.rendering import PageText, render, shortened
from bridge.vault import new_key
from tests.policy.hospital import NOON, event, hospital, page

EVENT_LIMIT = 65_536  # Matrix spec, 'Size limits'
ENVELOPE = 2_500  # ids, hashes and signatures around the ciphertext
LONGEST_FIELD = 255  # of a source's names and numbers
CONFIG = hospital(templates={"plain": {"lines": ["{caller_name} {recipient} {queue}", "{body}"]}})
WORDS = (
    "caller",
    "caller_name",
    "called",
    "recipient",
    "queue",
    "attributes.digits",
    "attributes.note",
    "body",
)
WORDY = hospital(templates={"plain": {"lines": [f"{{{word}}}" for word in WORDS]}})


def size(content: Phi[bytes]) -> int:
    """How large an event becomes: JSON in ASCII, encrypted, in base64."""
    return len(json.dumps(json.loads(content.reveal()))) * 4 // 3 + ENVELOPE


@example(piece="\u2066", times=714)  # each is closed again, so that it turns no number round
@example(piece="\u2067\n", times=5_000)
@example(piece="א\n", times=5_000)
@given(piece=st.text(min_size=1, max_size=20), times=st.integers(1, 70_000))
def test_every_text_fits_into_a_message_and_into_an_edit(piece: str, times: int) -> None:
    body = (piece * times)[:70_000]
    text = render(CONFIG, page(), event(body, caller_name="😀" * LONGEST_FIELD), NOON)
    assert size(message(text)) < EVENT_LIMIT
    assert size(replacement(text)) < EVENT_LIMIT


@given(piece=st.text(min_size=1, max_size=20), times=st.integers(1, 10_000))
def test_names_and_whatever_else_a_source_says_fit_too(piece: str, times: int) -> None:
    said = piece * times
    wordy = event(said, caller=said, called=said, caller_name=said, recipient=said, queue=said, digits=said)
    text = render(WORDY, page(), replace(wordy, attributes={**wordy.attributes, "note": Phi(said)}), NOON)
    assert size(message(text)) < EVENT_LIMIT
    assert size(replacement(text)) < EVENT_LIMIT


@given(body=st.text(max_size=1600))
def test_a_text_as_long_as_a_phone_sends_is_never_shortened(body: str) -> None:
    assert len(json.dumps(body)) > 7_000 or shortened(body) == body


@pytest.mark.parametrize("letter", ["a", "ä", "😀", "&", "\n", "\0", '"'], ids=repr)
def test_what_is_left_out_is_said(letter: str) -> None:
    short = shortened(letter * 60_000)
    kept = short.index("…")
    assert short[:kept] == letter * kept
    assert f"[{60_000 - kept} more characters" in short
    assert kept > 500


def test_the_state_of_a_page_stays_below_a_long_text() -> None:
    text = render(CONFIG, page(), event("x" * 60_000), NOON)
    assert text.plain.reveal().splitlines()[-2].startswith("Open since")


@given(letter=st.characters(codec="utf-8"), times=st.integers(1, 70_000))
def test_what_operations_are_shown_fits_into_a_message(letter: str, times: int) -> None:
    draft = operations.notice("A request could not be read:", new_key("k"), quoted=Phi(letter * times))
    assert size(draft.content) < EVENT_LIMIT


def test_a_message_of_many_lines_loses_its_end_and_not_its_beginning() -> None:
    lines = "\n".join(f"{number} · a page that waited" for number in range(5_000))
    content = message(PageText(Phi(lines), Phi(lines), (), notice=True))
    assert size(content) < EVENT_LIMIT
    assert json.loads(content.reveal())["body"].startswith("0 · a page that waited\n1 ·")
