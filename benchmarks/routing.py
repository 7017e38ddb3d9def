"""How long a decision takes, with few rules and with many. `python -m benchmarks.routing`."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.config import Config, parse
from bridge.config.load import FILES
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.policy.conditions import Asked, true_of
from bridge.policy.proof import prove
from bridge.policy.routing import Router, compile_rules, route

EXAMPLE = Path(__file__).parents[1] / "config"
EVENTS = 2_000
GOAL_MICROSECONDS = 100
HOURS = ("Mon-Fri 08:00-18:00", "Mon-Fri 18:00-08:00", "Sat,Sun")
THEN = {"role": "cardiology"}
COMMON = tuple(f"word{number}" for number in range(72))
WORDS = ("chest pain", "fall", "fever", "dialysis", "seizure", "bleeding", "overdose", "labour")


def rule(number: int) -> dict[str, Any]:
    """One of the kinds of rule that a hospital has: by line, hour, range, caller, word or queue."""
    line = f"+1555{number:07}"
    whens: tuple[dict[str, Any], ...] = (
        {"called": line},
        {"called": line, "hours": HOURS[number % 3]},
        {"called": f"{line[:-1]}0..{line[:-1]}9", "kind": "voicemail"},
        {"caller": line, "not": {"hours": HOURS[0]}},
        {"called": f"{line[:-1]}*", "words": [WORDS[number % 8], f"code {number}"]},
        {"queue": f"queue-{number}", "channel": "clinic-sms"},
    )
    return {"id": f"rule-{number}", "when": whens[number % len(whens)], "then": THEN}


def rule_of_words(number: int) -> dict[str, Any]:
    """The hard case: nothing but a phrase, each of its words in scores of others, too, and half of them only add."""
    of = len(COMMON)
    phrase = f"{COMMON[number % of]} {COMMON[number // of % of]}"
    return {"id": f"rule-{number}", "when": {"words": phrase}, "then": THEN, "continue": number % 2 == 0}


def hospital(rules: int, kind: Callable[[int], dict[str, Any]] = rule) -> Config:
    """The example with so many rules instead of its own."""
    texts = {name: (EXAMPLE / name).read_text() for name in FILES}
    head, tail = texts["routing.yaml"].split("rules:", 1)
    many = json.dumps([kind(number) for number in range(rules)], indent=0)
    texts["routing.yaml"] = f"{head}rules: {many}\n{tail[tail.index('fallback:') :]}"
    return parse(texts, EXAMPLE)


def sentence(chance: random.Random) -> str:
    """A text of the words that all the rules are made of."""
    return " ".join(chance.choices(COMMON, k=24))


def usual(chance: random.Random) -> str:
    """A text with one word that rules look for."""
    return f"Patient reports {chance.choice(WORDS)} since this morning, please call back as soon as you can."


def events(
    rules: int, chance: random.Random, body: Callable[[random.Random], str] = usual
) -> list[IntakeEvent]:
    """Events of which most mean some rule's line, and some mean none."""
    return [
        IntakeEvent(
            channel=ChannelId("clinic-sms"),
            key=Phi(str(number)),
            kind=chance.choice(list(EventKind)),
            body=Phi(body(chance)),
            called=Phi(f"+1555{chance.randrange(int(rules * 1.2)):07}"),
            caller=Phi(f"+1555{chance.randrange(10**7):07}"),
        )
        for number in range(EVENTS)
    ]


def from_the_top(router: Router, event: IntakeEvent, now: datetime) -> None:
    """What a decision costs without the index: every rule is looked at until one is true."""
    asked = Asked(event, now, router.config)
    next((rule for rule in router.rules if true_of(rule.conditions, asked)), None)


def measured(
    decide: Callable[[IntakeEvent, datetime], object], asked: list[IntakeEvent]
) -> tuple[float, float]:
    """The median and the 99th percentile of a decision, in microseconds of its own: not of waiting for a core."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    found: list[float] = []
    for number, event in enumerate(asked):
        start = thread_time()
        decide(event, now + timedelta(minutes=number))
        found.append((thread_time() - start) * 1e6)
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


def table() -> Table:
    """Measure hospitals with few rules and with many."""
    chance = random.Random(1)  # noqa: S311 - the same events each time
    found = Table("rules", "p50 µs", "p99 µs", "without index p50 µs", "check s", title="Routing, per event")
    found.caption = f"goal: under {GOAL_MICROSECONDS} µs with 5,000 rules"
    for rules, name, kind, body in (
        *((rules, f"{rules:,}", rule, usual) for rules in (10, 100, 1_000, 5_000)),
        (5_000, "5,000 of words alone", rule_of_words, sentence),
    ):
        config = hospital(rules, kind)
        router = compile_rules(config)
        asked = events(rules, chance, body)
        median, worst = measured(partial(route, router), asked)
        naive, _ = measured(partial(from_the_top, router), asked[:100])
        start = perf_counter()
        prove(config, datetime(2026, 11, 24, 12, tzinfo=UTC))
        proof = perf_counter() - start
        found.add_row(name, f"{median:.1f}", f"{worst:.1f}", f"{naive:.1f}", f"{proof:.1f}")
    return found


if __name__ == "__main__":
    Console().print(table())
