"""The configuration in force, ready for policy. A reload replaces it whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bridge.config import Config
from bridge.policy.routing import Router, compile_rules

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """One configuration and what is derived from it once."""

    config: Config
    router: Router

    @classmethod
    def of(cls, config: Config) -> Rulebook:
        """Make a configuration ready."""
        return cls(config, compile_rules(config))


CurrentRulebook = Callable[[], Rulebook]
