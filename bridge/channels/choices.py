"""The answers that a source offers with a page: how a room sees them, and how the event keeps them."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.report import ANSWERABLE, CHOICES, REPLIES
from bridge.model.tap import CHOICE_TAPS

MOST = 99
Choice = tuple[str, str]  # as it is shown, and as its source is told it


def with_choices(text: str, choices: Sequence[Choice]) -> str:
    """A page's words, with what can be tapped below them."""
    marks = [*CHOICE_TAPS, *(f"{number} ·" for number in range(len(CHOICE_TAPS) + 1, MOST + 1))]
    return "\n".join([text, *(f"{mark} {shown}" for mark, (shown, _) in zip(marks, choices, strict=False))])


def answer_attributes(choices: Sequence[Choice], *, text: bool) -> dict[str, str]:
    """What an event says of how it can be answered: by one of its choices, or by a text; or not at all."""
    return {
        ANSWERABLE: "choice" if choices else "text" if text else "",
        CHOICES: "\n".join(shown for shown, _ in choices),
        REPLIES: "\n".join(told for _, told in choices),
    }
