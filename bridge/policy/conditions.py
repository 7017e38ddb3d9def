"""Whether the conditions of a rule are true for an event: one entry in `CONDITIONS` for each.

Content is revealed here only to be compared; nothing of it leaves but a yes or a no.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from bridge.config import Config
from bridge.config.routing import Pattern, When
from bridge.config.times import Times
from bridge.model.event import IntakeEvent
from bridge.model.phi import reveal_optional
from bridge.policy.times import holds


def fold(text: str) -> str:
    """Text without letter case, accents and punctuation, its words one space apart."""
    # Compatibility caseless matching, Unicode 3.13, D146; then without the marks that are left.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return " ".join(re.findall(r"\w+", "".join(c for c in folded if not unicodedata.combining(c))))


@dataclass(frozen=True)
class Asked:
    """An event with what else its conditions may ask for; what several rules ask for is found out once."""

    event: IntakeEvent
    now: datetime
    config: Config
    earlier: tuple[datetime, ...] = ()
    _times: dict[tuple[int, str], bool] = field(default_factory=dict, init=False, repr=False)

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
    def language(self) -> str:
        return (self.event.language or "").casefold().replace("_", "-")

    @cached_property
    def text(self) -> str:
        """The folded body between two spaces, so that whole words can be found in it."""
        return f" {fold(self.event.body.reveal())} "

    def in_time(self, times: Times, zone: ZoneInfo) -> bool:
        """Whether the moment of the question is in `times`."""
        key = (id(times), zone.key)
        if key not in self._times:
            self._times[key] = holds(times, zone, self.config.roster, self.now)
        return self._times[key]


Test = Callable[[Asked], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule: the key that it stands under, and its test."""

    name: str
    test: Test


def compile_when(when: When, config: Config) -> tuple[Condition, ...]:
    """The conditions that a rule has, ready to be tested, the cheap ones first."""
    return tuple(
        Condition(name, make(when, config)) for name, make in CONDITIONS.items() if _given(when, name)
    )


def true_of(conditions: Iterable[Condition], asked: Asked) -> bool:
    """Whether all conditions are true."""
    return all(condition.test(asked) for condition in conditions)


def _given(when: When, name: str) -> Any:
    return getattr(when, {"not": "not_", "time": "times"}.get(name, name))


# ------------------------------------------------------------------------------------------- the tests


def _channel(when: When, _config: Config) -> Test:
    return lambda asked: asked.event.channel in when.channel


def _kind(when: When, _config: Config) -> Test:
    return lambda asked: asked.event.kind in when.kind


def _priority(when: When, _config: Config) -> Test:
    return lambda asked: asked.event.priority in when.priority


def _called(when: When, config: Config) -> Test:
    test = compile_patterns(expand(when.called, config))
    return lambda asked: test(asked.called)


def _caller(when: When, config: Config) -> Test:
    test = compile_patterns(expand(when.caller, config))
    return lambda asked: test(asked.caller)


def _recipient(when: When, config: Config) -> Test:
    test = compile_patterns(expand(when.recipient, config))
    return lambda asked: test(asked.recipient)


def _queue(when: When, config: Config) -> Test:
    test = compile_patterns(expand(when.queue, config))
    return lambda asked: test(asked.queue)


def _language(when: When, _config: Config) -> Test:
    """`de` is true of `de` and `de-AT` (RFC 4647, basic filtering)."""
    wanted = tuple(language.casefold() for language in when.language)
    return lambda asked: any(asked.language == w or asked.language.startswith(f"{w}-") for w in wanted)


def _words(when: When, _config: Config) -> Test:
    phrases = tuple(f" {fold(words)} " for words in when.words)
    return lambda asked: any(phrase in asked.text for phrase in phrases)


def _attributes(when: When, _config: Config) -> Test:
    """Each of them is one of its values. An event that does not have it has none of them."""
    tests = [(name, compile_patterns(patterns)) for name, patterns in when.attributes.items()]

    def test(asked: Asked) -> bool:
        said = asked.event.attributes
        return all(fits((reveal_optional(said.get(name)) or "").casefold()) for name, fits in tests)

    return test


def _repeats(when: When, _config: Config) -> Test:
    repeats = when.repeats
    if repeats is None:
        return lambda _asked: True

    def test(asked: Asked) -> bool:
        oldest = asked.now - repeats.within
        return 1 + sum(oldest < moment <= asked.now for moment in asked.earlier) >= repeats.at_least

    return test


def _time(when: When, config: Config) -> Test:
    times = when.times
    if times is None:
        return lambda _asked: True
    zone = when.time_zone or config.roster.time_zone
    return lambda asked: asked.in_time(times, zone)


def _any(when: When, config: Config) -> Test:
    branches = tuple(compile_when(branch, config) for branch in when.any)
    return lambda asked: any(true_of(branch, asked) for branch in branches)


def _all(when: When, config: Config) -> Test:
    branches = tuple(compile_when(branch, config) for branch in when.all)
    return lambda asked: all(true_of(branch, asked) for branch in branches)


def _not(when: When, config: Config) -> Test:
    denied = compile_when(when.not_ or When(), config)
    return lambda asked: not true_of(denied, asked)


CONDITIONS: dict[str, Callable[[When, Config], Test]] = {
    "channel": _channel,
    "kind": _kind,
    "priority": _priority,
    "called": _called,
    "caller": _caller,
    "recipient": _recipient,
    "queue": _queue,
    "language": _language,
    "words": _words,
    "attributes": _attributes,
    "repeats": _repeats,
    "time": _time,
    "any": _any,
    "all": _all,
    "not": _not,
}

# ----------------------------------------------------------------------------------------- patterns


def expand(patterns: Iterable[Pattern], config: Config) -> tuple[Pattern, ...]:
    """Patterns with the lists that they name written out."""
    found: list[Pattern] = []
    for pattern in patterns:
        found += config.routing.lists[pattern.group] if pattern.group is not None else (pattern,)
    return tuple(found)


def compile_patterns(patterns: tuple[Pattern, ...]) -> Callable[[str], bool]:
    """A test whether a number or name is one of those that are meant. It is as fast for a long list as for one."""
    exact = frozenset(p.low for p in patterns if not p.prefix and p.high is None)
    prefixes = tuple(p.low for p in patterns if p.prefix)
    ranges = tuple((p.low, p.high) for p in patterns if p.high is not None)

    def test(value: str) -> bool:
        return bool(value) and (
            value in exact
            or value.startswith(prefixes)
            or any(len(value) == len(low) and low <= value <= high for low, high in ranges)
        )

    return test


def blocks(low: str, high: str) -> tuple[str, ...]:
    """The prefixes that all numbers from `low` to `high`, and no others of their length, begin with.

    `+150..+171` is `+15`, `+16`, `+170`, `+171`.
    """
    sign, first, last = ("+" if low.startswith("+") else ""), int(low.lstrip("+")), int(high.lstrip("+"))
    digits = len(low) - len(sign)
    found: list[str] = []
    while first <= last:
        size = 1
        while first % (size * 10) == 0 and first + size * 10 - 1 <= last:
            size *= 10
        text = f"{first:0{digits}}"
        found.append(sign + text[: digits - len(str(size)) + 1])
        first += size
    return tuple(found)
