"""What a clinician says to the bridge with one thumb: by a reaction, or by a word in the room or a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum

from bridge.model.page import PageState
from bridge.model.phi import Phi
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
}
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
# A word that is one of these is a command only alone, so that "call me when you are up" stays between people.
_ONLY_ALONE = frozenset({Verb.ACCEPT, Verb.DECLINE, Verb.CALL_BACK, Verb.HELP})

# The reactions that the bridge puts under a page itself, so that one tap is enough.
SEEDED = {
    PageState.OPEN: ("✅", "❌"),
    PageState.ACCEPTED: ("☎️", "🏁"),
}


def parse_reaction(key: str) -> Command | None:
    """The command that a reaction means, whatever its skin colour; None for one that means nothing here."""
    bare = "".join(c for c in key if c not in "\ufe0e\ufe0f" and not "\U0001f3fb" <= c <= "\U0001f3ff")
    verb = _REACTIONS.get(bare)
    return Command(verb) if verb is not None else None


def parse(text: Phi[str], *, addressed: bool) -> Command | NotUnderstood | None:
    """The command in a message.

    `addressed` says that the message is for the bridge: a reply to a page, a message in a page's thread, or
    one that mentions the bot. Then near misses are taken, and anything else gets an answer that helps.
    Otherwise only a plain command is one, and what people say to each other is None.
    """
    words = fold(text.reveal()).split()
    for length in (2, 1):
        verb = _WORDS.get(" ".join(words[:length])) if len(words) >= length else None
        rest = words[length:]
        if verb is not None and (not rest or addressed or verb not in _ONLY_ALONE):
            return Command(verb, Phi(_rest(text.reveal(), length)))
    if not addressed or not words:
        return None
    if len(words) == 1 and (near := get_close_matches(words[0], _WORDS, n=1, cutoff=0.75)):
        return Command(_WORDS[near[0]])
    return NotUnderstood(f"I didn't understand that. {HELP}")


def _rest(text: str, words: int) -> str:
    parts = text.split(maxsplit=words)
    return parts[words].strip() if len(parts) > words else ""


# Fits a phone screen.
HELP = """\
Tap a reaction under the page, or reply to it:
✅ accept · ❌ decline
☎️ call back · 🏁 close OUTCOME
forward NAME · snooze 10 min
In the room: oncall · take · give NAME"""


def help_line(state: PageState) -> str:
    """What can be tapped under a page in this state."""
    return "✅ accept · ❌ decline" if state.waiting else ""
