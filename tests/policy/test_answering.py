"""What a clinician's words to the sender of a page come to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.report import Answered
from bridge.policy.answering import LONGEST, answer_to, chosen
from bridge.policy.commands import Command, NotUnderstood, Verb, parse, parse_reaction

NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)


def event(**attributes: str) -> IntakeEvent:
    words = {name: Phi(value) for name, value in attributes.items()}
    return IntakeEvent(ChannelId("desk"), Phi("1"), EventKind.PAGE, Phi("Coming?"), attributes=words)


OFFERED = event(answers="choice", choices="Yes, I am coming\nNo", choice_replies="1\n2")


@pytest.mark.parametrize("said", ["1", " 1 ", "yes i am COMING", "Yes, I am coming!"])
def test_a_choice_is_taken_by_its_number_or_in_its_words(said: str) -> None:
    assert answer_to(OFFERED, Phi(said), NOW) == Answered(Phi("1"), 0, NOW)


@pytest.mark.parametrize("said", ["", "0", "3", "perhaps", "²", "٣", "1" * 5000])
def test_what_is_no_choice_is_not_told(said: str) -> None:
    assert isinstance(answer_to(OFFERED, Phi(said), NOW), NotUnderstood)


def test_a_text_is_told_to_a_source_that_takes_one() -> None:
    assert answer_to(event(answers="text"), Phi("On my way"), NOW) == Answered(Phi("On my way"), None, NOW)


@pytest.mark.parametrize("said", ["", "x" * (LONGEST + 1)])
def test_an_answer_says_something_and_has_an_end(said: str) -> None:
    assert isinstance(answer_to(event(answers="text"), Phi(said), NOW), NotUnderstood)


def test_a_source_without_a_way_back_can_not_be_answered() -> None:
    assert answer_to(event(), Phi("On my way"), NOW) == NotUnderstood(
        "Its sender can't be answered from here."
    )


def test_words_under_a_page_are_an_answer_if_they_are_one_of_its_choices() -> None:
    assert chosen(OFFERED, Phi("no")) == Command(Verb.ANSWER, Phi("2"))
    assert chosen(OFFERED, Phi("> Coming?\n\nno")) == Command(Verb.ANSWER, Phi("2"))
    assert chosen(OFFERED, Phi("perhaps")) is None


@pytest.mark.parametrize("key", ["2️⃣", "2⃣"])
def test_a_tap_on_a_number_is_an_answer(key: str) -> None:
    assert parse_reaction(key) == Command(Verb.ANSWER, Phi("2"))


@pytest.mark.parametrize(
    ("said", "argument"), [("2", "2"), ("answer On my way", "On my way"), ("Reply: 2", "2")]
)
def test_a_reply_to_a_page_can_be_an_answer(said: str, argument: str) -> None:
    assert parse(Phi(said), addressed=True) == Command(Verb.ANSWER, Phi(argument))


@pytest.mark.parametrize("said", ["2", "answer", "reply", "answer me"])
def test_what_people_say_to_each_other_is_no_answer(said: str) -> None:
    assert parse(Phi(said), addressed=False) is None
