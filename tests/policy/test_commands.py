from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.policy.commands import SEEDED, Command, NotUnderstood, Verb, parse, parse_reaction


def verb(text: str, *, addressed: bool = False) -> Verb | None:
    command = parse(Phi(text), addressed=addressed)
    return command.verb if isinstance(command, Command) else None


@pytest.mark.parametrize("text", ["accept", "Accept!", " ACCEPTED ", "ack", "✅", "✔️", "👍🏽"])
def test_a_page_is_accepted_with_one_word_or_sign(text: str) -> None:
    assert verb(text) is Verb.ACCEPT


@pytest.mark.parametrize(
    "text",
    [
        "take care",
        "give him aspirin",
        "call me when you are up",
        "who is this",
        "accept my thanks",
        "help me",
        "",
    ],
)
def test_what_people_say_to_each_other_is_no_command(text: str) -> None:
    assert parse(Phi(text), addressed=False) is None


@pytest.mark.parametrize(
    ("text", "expected", "argument"),
    [
        ("accept, on my way", Verb.ACCEPT, "on my way"),
        ("forward Dr. Ana", Verb.FORWARD, "Dr. Ana"),
        ("Call back", Verb.CALL_BACK, ""),
        ("close: spoke to patient.", Verb.CLOSE, "spoke to patient"),
        ("snooze 10 min", Verb.SNOOZE, "10 min"),
        ("on call", Verb.ONCALL, ""),
    ],
)
def test_what_is_said_to_a_page_may_say_more(text: str, expected: Verb, argument: str) -> None:
    assert parse(Phi(text), addressed=True) == Command(expected, Phi(argument))


@pytest.mark.parametrize("text", ["really", "recal", "recall that she is allergic", "I recall"])
def test_what_can_not_be_undone_is_never_guessed(text: str) -> None:
    assert verb(text, addressed=True) is None


def test_an_exclamation_mark_addresses_the_bridge() -> None:
    assert parse(Phi("!give ben"), addressed=False) == Command(Verb.GIVE, Phi("ben"))


@pytest.mark.parametrize(("text", "expected"), [("acept", Verb.ACCEPT), ("declne", Verb.DECLINE)])
def test_a_slip_of_the_thumb_under_a_page_is_understood(text: str, expected: Verb) -> None:
    assert (verb(text, addressed=True), verb(text)) == (expected, None)


def test_a_quotation_before_a_reply_is_not_what_is_said() -> None:
    assert verb("> <@bot:x> 🟠 Urgent\n> decline\n\naccept", addressed=True) is Verb.ACCEPT


def test_words_that_are_not_understood_get_help_that_fits_a_phone() -> None:
    answer = parse(Phi("what shall I do"), addressed=True)
    assert isinstance(answer, NotUnderstood)
    assert max(len(line) for line in answer.answer.splitlines()) <= 72
    assert "what shall" not in answer.answer


def test_every_reaction_that_is_offered_is_understood() -> None:
    assert [parse_reaction(key) for keys in SEEDED.values() for key in keys] == [
        Command(found) for found in (Verb.ACCEPT, Verb.DECLINE, Verb.CALL_BACK, Verb.CLOSE)
    ]
    assert SEEDED[PageState.OPEN][0] == "✅"


def test_a_mere_reaction_means_nothing() -> None:
    assert parse_reaction("🎉") is None


@given(text=st.text(), addressed=st.booleans())
def test_every_text_is_a_command_or_talk_or_gets_an_answer(text: str, *, addressed: bool) -> None:
    assert isinstance(parse(Phi(text), addressed=addressed), Command | NotUnderstood | None)
