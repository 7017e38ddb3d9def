"""The configuration in force, ready for policy. A reload replaces it whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bridge.config import Config
from bridge.config.routing import When
from bridge.model import in_hand
from bridge.policy.routing import Router, compile_rules

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """One configuration and what is derived from it once."""

    config: Config
    router: Router
    counts_repeats: bool
    replies: bool  # whether any rule has something to tell callers

    @classmethod
    def of(cls, config: Config) -> Rulebook:
        """Make a configuration ready."""
        rules, fallback = config.routing.rules, config.routing.fallback
        return cls(
            config,
            compile_rules(config),
            counts_repeats=any(_repeats(rule.when) for rule in rules),
            replies=any(then.auto_reply for then in (*(rule.then for rule in rules), fallback)),
        )


def _repeats(when: When) -> bool:
    within = (*when.any, *when.all, *((when.not_,) if when.not_ else ()))
    return when.repeats is not None or any(_repeats(part) for part in within)


class LiveRulebook:
    """The rulebook in force. Calling it gives it; `replace` is the whole of a reload."""

    def __init__(self, book: Rulebook) -> None:
        self.replace(book)

    def __call__(self) -> Rulebook:
        return self._book

    def replace(self, book: Rulebook) -> None:
        """From now on this one. What it says may be said in a log."""
        for source in book.config.sources.values():
            in_hand.learn(str(source.value))
        for calendar in book.config.calendars.values():
            in_hand.learn(calendar)
        self._book = book


CurrentRulebook = Callable[[], Rulebook]
