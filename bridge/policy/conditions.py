"""Whether the conditions of a rule are true for an event.

Content is revealed here only to be compared; nothing of it leaves but a yes or a no.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from bridge.config import Config
from bridge.config.routing import Pattern, When
from bridge.model.event import IntakeEvent
from bridge.model.phi import reveal_optional
from bridge.policy.times import holds


def fold(text: str) -> str:
    """Text without letter case, accents and punctuation, its words one space apart."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", plain))


@dataclass(frozen=True)
class Asked:
    """An event with what else its conditions may ask for."""

    event: IntakeEvent
    now: datetime
    config: Config
    earlier: tuple[datetime, ...] = field(default=())

    @cached_property
    def caller(self) -> str:
        return reveal_optional(self.event.caller) or ""

    @cached_property
    def called(self) -> str:
        return reveal_optional(self.event.called) or ""

    @cached_property
    def recipient(self) -> str:
        return (reveal_optional(self.event.recipient) or "").casefold()

    @cached_property
    def queue(self) -> str:
        return (reveal_optional(self.event.queue) or "").casefold()

    @cached_property
    def text(self) -> str:
        """The folded body between two spaces, so that whole words can be found in it."""
        return f" {fold(self.event.body.reveal())} "


def matches(when: When, asked: Asked) -> bool:
    """Whether a rule's conditions are true."""
    event = asked.event
    return (
        (not when.channel or event.channel in when.channel)
        and (not when.kind or event.kind in when.kind)
        and (not when.priority or event.priority in when.priority)
        and (not when.called or _any_pattern(when.called, asked.called, asked.config))
        and (not when.caller or _any_pattern(when.caller, asked.caller, asked.config))
        and (not when.recipient or _any_pattern(when.recipient, asked.recipient, asked.config))
        and (not when.queue or _any_pattern(when.queue, asked.queue, asked.config))
        and (not when.language or _speaks(when.language, event.language))
        and (not when.words or any(f" {fold(words)} " in asked.text for words in when.words))
        and (when.repeats is None or _repeated(when, asked))
        and _in_time(when, asked)
        and (not when.any or any(matches(branch, asked) for branch in when.any))
        and all(matches(branch, asked) for branch in when.all)
        and (when.not_ is None or not matches(when.not_, asked))
    )


def _any_pattern(patterns: tuple[Pattern, ...], value: str, config: Config) -> bool:
    return bool(value) and any(pattern_matches(pattern, value, config) for pattern in patterns)


def pattern_matches(pattern: Pattern, value: str, config: Config) -> bool:
    """Whether a number or a name is one that a pattern means."""
    if pattern.group is not None:
        return _any_pattern(config.routing.lists[pattern.group], value, config)
    if pattern.prefix:
        return value.startswith(pattern.low)
    if pattern.high is not None:
        return len(value) == len(pattern.low) and pattern.low <= value <= pattern.high
    return value == pattern.low


def _speaks(languages: tuple[str, ...], language: str | None) -> bool:
    """`de` matches `de` and `de-AT`, as in RFC 4647's basic filtering."""
    said = (language or "").casefold().replace("_", "-")
    return any(said == wanted.casefold() or said.startswith(f"{wanted.casefold()}-") for wanted in languages)


def _repeated(when: When, asked: Asked) -> bool:
    if when.repeats is None:
        return True
    oldest = asked.now - when.repeats.within
    return 1 + sum(oldest < moment <= asked.now for moment in asked.earlier) >= when.repeats.at_least


def _in_time(when: When, asked: Asked) -> bool:
    times = when.times
    roster = asked.config.roster
    return times is None or holds(times, when.time_zone or roster.time_zone, roster, asked.now)
