"""What a clinician says to the bridge with one thumb: by a reaction, or by a word in the room or a thread."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum

from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.model.tap import Tap
from bridge.policy.conditions import fold


class Verb(StrEnum):
    """What can be asked of the bridge."""

    ACCEPT = "accept"
    DECLINE = "decline"
    FORWARD = "forward"
    CALL_BACK = "call back"
    CLOSE = "close"
    ONCALL = "oncall"
    TAKE = "take"
    GIVE = "give"
    SNOOZE = "snooze"
    ANSWER = "answer"
    RECALL = "recall"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Command:
    """A verb, and what was said after it: a person, a role, an outcome, a time."""

    verb: Verb
    argument: Phi[str] = field(default_factory=lambda: Phi(""))


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """Words for the bridge that are no command; `answer` is what to say, and repeats nothing of them."""

    answer: str


# What people type at 3 a.m. when they mean one of the verbs.
_WORDS: dict[str, Verb] = {
    **{verb.value: verb for verb in Verb},
    "accepted": Verb.ACCEPT,
    "acc": Verb.ACCEPT,
    "ack": Verb.ACCEPT,
    "declined": Verb.DECLINE,
    "dec": Verb.DECLINE,
    "reject": Verb.DECLINE,
    "fwd": Verb.FORWARD,
    "callback": Verb.CALL_BACK,
    "call": Verb.CALL_BACK,
    "done": Verb.CLOSE,
    "closed": Verb.CLOSE,
    "on call": Verb.ONCALL,
    "who": Verb.ONCALL,
    "reply": Verb.ANSWER,
}
# With more words after them these are talk, even under a page: "call me when you are up", "who is this".
_ONLY_ALONE = frozenset({"call", "who", "help", "recall"})
# Without more words these are talk, unless they are said to the bridge.
_NOT_ALONE = frozenset({"answer", "reply"})
_KEYCAP = "\u20e3"
# What it does can't be undone, so that it is never guessed: "really" is as near to it as a slip of the thumb.
_NEAR = [word for word, verb in _WORDS.items() if verb is not Verb.RECALL]
_REACTIONS = {
    "✅": Verb.ACCEPT,
    "👍": Verb.ACCEPT,
    "✔": Verb.ACCEPT,
    "❌": Verb.DECLINE,
    "👎": Verb.DECLINE,
    "☎": Verb.CALL_BACK,
    "📞": Verb.CALL_BACK,
    "🏁": Verb.CLOSE,
    "💤": Verb.SNOOZE,
}
# The reactions that the bridge puts under a page itself, so that one tap is enough.
SEEDED = {
    PageState.OPEN: (Tap.ACCEPT, Tap.DECLINE),
    PageState.ACCEPTED: (Tap.CALL_BACK, Tap.CLOSE),
}


def parse_reaction(key: str) -> Command | None:
    """The command that a reaction means, whatever its skin colour; None for one that means nothing here."""
    bare = "".join(c for c in key if c not in "\ufe0e\ufe0f" and not "\U0001f3fb" <= c <= "\U0001f3ff")
    if bare.endswith(_KEYCAP) and bare[:-1] in set("123456789"):
        return Command(Verb.ANSWER, Phi(bare[:-1]))
    verb = _REACTIONS.get(bare)
    return Command(verb) if verb is not None else None


def parse(text: Phi[str], *, addressed: bool) -> Command | NotUnderstood | None:
    """The command in a message.

    `addressed` says that the message is for the bridge: a reply to a page, a message in a page's thread, or one
    that mentions the bot. A message that begins with `!` is, too. Then words may follow the verb, near misses are
    taken, and anything else gets an answer that helps. Otherwise only a verb alone is a command, so that nobody
    who writes "take care" takes a shift; what people say to each other is None.
    """
    said = _without_quotation(text.reveal())
    if reaction := parse_reaction(said):
        return reaction
    addressed = addressed or said.startswith("!")
    words = fold(said).split()
    for length in (2, 1):
        start = " ".join(words[:length])
        alone = len(words) == length
        if start in _WORDS and _is_meant(start, alone=alone, addressed=addressed):
            return Command(_WORDS[start], Phi(_after(said, length)))
    if not addressed or not words:
        return None
    if len(words) == 1 and re.fullmatch("[0-9]{1,2}", words[0]):
        return Command(Verb.ANSWER, Phi(words[0]))
    if len(words) == 1 and (near := get_close_matches(words[0], _NEAR, n=1, cutoff=0.75)):
        return Command(_WORDS[near[0]])
    return NotUnderstood(f"I didn't understand that. {HELP}")


def _is_meant(start: str, *, alone: bool, addressed: bool) -> bool:
    return start not in _ONLY_ALONE or alone if addressed else alone and start not in _NOT_ALONE


def _without_quotation(text: str) -> str:
    """A reply without the words that it quotes, which some clients put before it (Matrix spec, 'Fallbacks')."""
    lines = text.strip().splitlines()
    while lines and lines[0].startswith(">"):
        lines.pop(0)
    return "\n".join(lines).strip()


def _after(text: str, words: int) -> str:
    """What stands after the first so many words, as it was written."""
    ends = [match.end() for match in re.finditer(r"\w+", text)]
    return text[ends[words - 1] :].strip(" \t\n,.;:!") if len(ends) >= words else ""


# Fits a phone screen.
HELP = """\
Tap a reaction under the page, or reply to it:
✅ accept · ❌ decline
☎️ call back · 🏁 close OUTCOME
forward NAME · snooze 10 min · recall
1️⃣ … or answer TEXT, to its sender
In the room: oncall · take · !give NAME"""


def help_line(state: PageState) -> str:
    """What can be tapped under a page in this state."""
    return "✅ accept · ❌ decline" if state.waiting else ""
