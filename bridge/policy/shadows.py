"""Which rules can ever decide: whether one rule takes everything that another is for.

The answers are sound but not complete: what is said to be shadowed is, and some that are shadowed go unsaid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

from bridge.config import Config
from bridge.config.routing import Pattern, When
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.policy.conditions import Asked, compile_patterns, compile_when, expand, fold, true_of
from bridge.policy.routing import Router, candidates
from bridge.policy.times import holds, instant, spans

_PATTERNS = ("called", "caller", "recipient", "queue")
_CHOICES = ("channel", "kind", "priority")
_FIELDS = (*_CHOICES, *_PATTERNS, "words", "language", "repeats")
# Weekly hours repeat within the one, holidays within the other.
_WEEK = timedelta(days=8)
_YEAR = timedelta(days=366)


def shadowed_by(router: Router, number: int, now: datetime) -> tuple[int, ...]:
    """The rules that together take, at every moment to come, all that a rule is for; empty if something is left."""
    rule = router.config.routing.rules[number].when
    rivals = earlier_rivals(router, number, now)
    whens = [router.config.routing.rules[rival].when for rival in rivals]
    found: dict[int, None] = {}
    for at in moments([rule, *whens], router.config, now):
        if not possible_at(rule, router.config, at):
            continue
        takers = takers_of(rule, whens, router.config, at)
        if not takers:
            return ()
        found |= dict.fromkeys(rivals[taker] for taker in takers)
    return tuple(found)


def takers_of(rule: When, rivals: Sequence[When], config: Config, at: datetime) -> tuple[int, ...]:
    """Which of the rivals together take, at an instant, all that a rule is for; empty if something is left.

    One alone, or those that divide what it is for among them by kind and channel, of which there are few.
    """
    alone = next((number for number, rival in enumerate(rivals) if covers(rival, rule, config, at)), None)
    if alone is not None:
        return (alone,)
    for name, values in (("kind", tuple(EventKind)), ("channel", tuple(config.channels))):
        mine = getattr(rule, name) or values
        if len(mine) > 1 and any(getattr(part, name) for rival in rivals for part in parts_of(rival)):
            found: dict[int, None] = {}
            for value in mine:
                takers = takers_of(rule.model_copy(update={name: (value,)}), rivals, config, at)
                if not takers:
                    return ()
                found |= dict.fromkeys(takers)
            return tuple(sorted(found))
    return ()


def never_again(rule: When, config: Config, now: datetime) -> bool:
    """Whether time alone keeps the conditions from ever being true from `now` on."""
    return not any(possible_at(rule, config, at) for at in moments([rule], config, now))


def earlier_rivals(router: Router, number: int, now: datetime) -> tuple[int, ...]:
    """The rules before a rule that end the search, and could take something that it is for."""
    rules = router.config.routing.rules
    when = rules[number].when if number < len(rules) else When()
    witness = _witness(when)
    timeless = [c for c in compile_when(when, router.config) if c.name not in ("time", "repeats")]
    pool: set[int] = set()
    # Whatever takes a share of what a rule is for, by kind or channel, takes one of these: the index finds it.
    for each in _of_every_kind(witness, when, router.config):
        asked = Asked(each, now, router.config)
        if not true_of(timeless, asked):
            pool = set(range(number))
            break
        pool.update(candidates(router, asked))
    return tuple(sorted(rival for rival in pool if rival < number and not rules[rival].continue_))


def moments(whens: Iterable[When], config: Config, now: datetime) -> list[datetime]:
    """Instants from `now` on, one of each kind that the rules' conditions about time tell apart."""
    parts = [part for when in whens for part in parts_of(when) if part.times is not None]
    found = {now}
    starts = [now, *(end for part in parts for end in _ends_of_dates(part, config) if end > now)]
    for start in starts:
        until = start + (_YEAR if any(part.holidays for part in parts) else _WEEK)
        found |= {start, *(edge for part in parts for edge in _edges(part, config, start, until))}
    return sorted(found)


def moments_within(start: datetime, until: datetime, whens: Iterable[When], config: Config) -> list[datetime]:
    """`start`, and the instants before `until` at which the rules' conditions about time can change."""
    parts = [part for when in whens for part in parts_of(when)]
    return sorted({start, *(edge for part in parts for edge in _edges(part, config, start, until))})


def _ends_of_dates(part: When, config: Config) -> Iterator[datetime]:
    """The first and the last moment of each range of dates: everything is told apart by them and a week's hours."""
    zone = part.time_zone or config.roster.time_zone
    for dates in part.dates:
        for day in (dates.first, dates.last + timedelta(days=1)):
            yield instant(datetime.combine(day, time()), zone)


def _edges(part: When, config: Config, start: datetime, until: datetime) -> Iterator[datetime]:
    if part.times is not None:
        for span in spans(part.times, part.time_zone or config.roster.time_zone, config.roster, start, until):
            yield from (edge for edge in (span.start, span.until) if start <= edge < until)


def parts_of(when: When) -> Iterator[When]:
    """The conditions and all that stand within them."""
    yield when
    for part in (*when.any, *when.all, *((when.not_,) if when.not_ else ())):
        yield from parts_of(part)


def possible_at(when: When, config: Config, at: datetime) -> bool:
    """Whether some event at an instant could fulfil the conditions, as far as they are about time."""
    return _truth_at(when, config, at) is not False


def _truth_at(when: When, config: Config, at: datetime) -> bool | None:
    """True and False where time alone decides, None where it depends on the event (Kleene's logic)."""
    truths: list[bool | None] = [_truth_at(part, config, at) for part in when.all]
    if when.times is not None:
        truths.append(holds(when.times, when.time_zone or config.roster.time_zone, config.roster, at))
    if when.any:
        branches = [_truth_at(part, config, at) for part in when.any]
        truths.append(True if True in branches else None if None in branches else False)
    if when.not_ is not None:
        denied = _truth_at(when.not_, config, at)
        truths.append(None if denied is None else not denied)
    if any(getattr(when, name) for name in (*_FIELDS, "attributes")):
        truths.append(None)
    return False if False in truths else None if None in truths else True


def covers(wide: When, narrow: When, config: Config, at: datetime) -> bool:
    """Whether at an instant every event that fulfils `narrow` fulfils `wide`."""
    conjuncts = tuple(_conjuncts(narrow))
    if any(part.any and all(covers(wide, branch, config, at) for branch in part.any) for part in conjuncts):
        return True
    simple = all(
        any(_field_covers(name, wide, part, config) for part in conjuncts)
        for name in _FIELDS
        if getattr(wide, name)
    )
    attributes = all(
        any(name in part.attributes and _patterns_cover(values, part.attributes[name]) for part in conjuncts)
        for name, values in wide.attributes.items()
    )
    return (
        simple
        and attributes
        and (
            wide.times is None
            or holds(wide.times, wide.time_zone or config.roster.time_zone, config.roster, at)
        )
        and (not wide.any or any(covers(branch, narrow, config, at) for branch in wide.any))
        and all(covers(branch, narrow, config, at) for branch in wide.all)
        and (wide.not_ is None or _excludes(conjuncts, wide.not_, config, at))
    )


def _conjuncts(when: When) -> Iterator[When]:
    yield when
    for part in when.all:
        yield from _conjuncts(part)


def _excludes(conjuncts: tuple[When, ...], denied: When, config: Config, at: datetime) -> bool:
    """Whether nothing that fulfils all of the conjuncts fulfils `denied`."""
    if _truth_at(denied, config, at) is False:
        return True
    for part in conjuncts:
        if part.not_ is not None and covers(part.not_, denied, config, at):
            return True
        for name in _CHOICES:
            mine, other = getattr(part, name), getattr(denied, name)
            if mine and other and not set(mine) & set(other):
                return True
    return False


def _field_covers(name: str, wide: When, narrow: When, config: Config) -> bool:
    mine: Any = getattr(narrow, name)
    if not mine:
        return False
    theirs: Any = getattr(wide, name)
    if name in _CHOICES:
        return set(mine) <= set(theirs)
    if name in _PATTERNS:
        return _patterns_cover(expand(theirs, config), expand(mine, config))
    if name == "repeats":
        return bool(mine.at_least >= theirs.at_least and mine.within <= theirs.within)
    if name == "language":
        return all(any(f"{m}-".casefold().startswith(f"{t}-".casefold()) for t in theirs) for m in mine)
    return all(any(f" {fold(t)} " in f" {fold(m)} " for t in theirs) for m in mine)


def _patterns_cover(wide: tuple[Pattern, ...], narrow: tuple[Pattern, ...]) -> bool:
    is_wide = compile_patterns(wide)
    return all(
        is_wide(mine.low)
        if not mine.prefix and mine.high is None
        else any(_pattern_covers(theirs, mine) for theirs in wide)
        for mine in narrow
    )


def _pattern_covers(wide: Pattern, narrow: Pattern) -> bool:
    if wide.prefix:
        return narrow.low.startswith(wide.low) and (narrow.high or narrow.low).startswith(wide.low)
    if wide.high is None or narrow.high is None or len(wide.low) != len(narrow.low):
        return False
    return wide.low <= narrow.low and narrow.high <= wide.high


def _witness(when: When) -> IntakeEvent:
    """An event that fulfils all that the conditions demand, but for time, repetition and what they deny."""
    said: dict[str, str] = {}
    words: list[str] = []
    attributes: dict[str, Phi[str]] = {}
    for part in _demands(when):
        for name in (*_CHOICES, "language"):
            if given := getattr(part, name):
                said.setdefault(name, str(given[0]))
        for name in _PATTERNS:
            if (given := getattr(part, name)) and given[0].group is None:
                said.setdefault(name, given[0].low)
        words += part.words[:1]
        for key, values in part.attributes.items():
            attributes.setdefault(key, Phi(values[0].low))
    return IntakeEvent(
        channel=ChannelId(said.get("channel", "")),
        key=Phi("witness"),
        kind=EventKind(said.get("kind", EventKind.TEXT)),
        body=Phi(" ".join(words)),
        caller=protect_optional(said.get("caller")),
        called=protect_optional(said.get("called")),
        recipient=protect_optional(said.get("recipient")),
        queue=protect_optional(said.get("queue")),
        language=said.get("language"),
        attributes=attributes,
    )


def _of_every_kind(witness: IntakeEvent, when: When, config: Config) -> Iterator[IntakeEvent]:
    """The witness, and in what the conditions leave open another of each kind, and by each channel."""
    yield witness
    if not any(part.kind for part in parts_of(when)):
        yield from (replace(witness, kind=kind) for kind in EventKind)
    if not any(part.channel for part in parts_of(when)):
        yield from (replace(witness, channel=channel) for channel in config.channels)


def _demands(when: When) -> Iterator[When]:
    yield when
    for part in (*when.all, *when.any[:1]):
        yield from _demands(part)
