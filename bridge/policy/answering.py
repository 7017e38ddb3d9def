"""What a clinician's words to the sender of a page come to."""

from __future__ import annotations

from datetime import datetime

from bridge.model.event import IntakeEvent
from bridge.model.phi import Phi
from bridge.model.report import ANSWERABLE, REPLIES, Answered, choices_of
from bridge.policy.commands import Command, NotUnderstood, Verb
from bridge.policy.conditions import fold

CANT = "Its sender can't be answered from here."
WHAT = "Write the answer behind it: answer ON MY WAY."
LONGEST = 1000


def answer_to(event: IntakeEvent, said: Phi[str], at: datetime) -> Answered | NotUnderstood:
    """The answer to an event: one of its choices by number or in its words, or a text if its source takes one."""
    takes = event.attributes.get(ANSWERABLE)
    if takes is None:
        return NotUnderstood(CANT)
    choices, words = choices_of(event), said.reveal().strip()
    choice = _choice(choices, words)
    if choice is not None:
        told = event.attributes.get(REPLIES)
        replies = told.reveal().split("\n") if told is not None else choices
        return Answered(Phi(replies[choice]), choice, at)
    if choices and (takes.reveal() == "choice" or words.isdecimal()):
        return NotUnderstood(f"It offers {len(choices)} answers: tap or write the number of one.")
    if not words:
        return NotUnderstood(WHAT)
    if len(words) > LONGEST:
        return NotUnderstood(f"An answer has at most {LONGEST} characters.")
    return Answered(Phi(words), None, at)


def chosen(event: IntakeEvent, said: Phi[str]) -> Command | None:
    """The answer that words for the bridge are, if they are one of an event's choices."""
    choice = _choice(choices_of(event), said.reveal())
    return Command(Verb.ANSWER, Phi(str(choice + 1))) if choice is not None else None


def _choice(choices: list[str], words: str) -> int | None:
    if words.isdecimal() and len(words) < len("1000") and 1 <= int(words) <= len(choices):
        return int(words) - 1
    said = fold(words.strip().splitlines()[-1]) if words.strip() else ""
    return next((number for number, choice in enumerate(choices) if said and fold(choice) == said), None)
