"""Which role gets an event, how urgently, and why.

A rule is looked at only if its most telling condition fits the event: `Router` has an index from numbers, names and
phrases to rules, so that an event costs as much as the rules that could be true of it, not as all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge

from bridge.config import Config
from bridge.config.ladders import chosen
from bridge.config.routing import FALLBACK, Pattern, Then, When
from bridge.model.decision import Decision, Routing
from bridge.model.event import IntakeEvent
from bridge.model.ids import LadderId, RoleId, RuleId
from bridge.model.priority import Priority
from bridge.policy.conditions import Asked, Condition, blocks, compile_when, expand, fold, true_of
from bridge.policy.waiting import hold_until

# What is looked up in the index: the field, and a value, a prefix or a phrase of it. `*` marks a prefix.
Key = tuple[str, str]

_TEXT_FIELDS = ("called", "caller", "recipient", "queue")


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its conditions ready to be tested."""

    id: RuleId
    conditions: tuple[Condition, ...]
    then: Then
    continues: bool


@dataclass(frozen=True, slots=True)
class Router:
    """The rules of a configuration, ready to be asked.

    `index` leads from a key to the rules that have it, in their order; `always` are those that need no key.
    `prefixes` are the lengths of the prefixes that occur in a field, `phrases` the numbers of words of those phrases
    that begin with a word.
    """

    config: Config
    rules: tuple[CompiledRule, ...]
    index: Mapping[Key, tuple[int, ...]]
    always: tuple[int, ...]
    prefixes: Mapping[str, tuple[int, ...]]
    phrases: Mapping[str, tuple[int, ...]]


def compile_rules(config: Config) -> Router:
    """Make the rules of a configuration ready to be asked."""
    routing = config.routing
    rules = tuple(
        CompiledRule(routing.rule_id(index), compile_when(rule.when, config), rule.then, rule.continue_)
        for index, rule in enumerate(routing.rules)
    )
    choices = [_choices(rule.when, config) for rule in routing.rules]
    crowds = Counter(key for sets in choices for keys in sets for key in keys)
    index: dict[Key, list[int]] = {}
    always: list[int] = []
    for number, sets in enumerate(choices):
        keys = min(sets, key=lambda keys: sum(crowds[key] for key in keys) / len(keys), default=None)
        for places in [index.setdefault(key, []) for key in keys] if keys is not None else [always]:
            places.append(number)
    lengths: dict[str, set[int]] = {}
    phrases: dict[str, set[int]] = {}
    for name, value in index:
        if name.endswith("*"):
            lengths.setdefault(name, set()).add(len(value))
        elif name == "words":
            phrases.setdefault(value.partition(" ")[0], set()).add(len(value.split()))
    return Router(
        config,
        rules,
        {key: tuple(places) for key, places in index.items()},
        tuple(always),
        {name: tuple(sorted(found)) for name, found in lengths.items()},
        {word: tuple(sorted(found)) for word, found in phrases.items()},
    )


def route(router: Router, event: IntakeEvent, now: datetime, earlier: Sequence[datetime] = ()) -> Routing:
    """Decide about an event: the same inputs always get the same answer, and there always is one.

    `earlier` are the instants of the same caller's earlier events, for rules about repeated calls.
    """
    asked = Asked(event, now, router.config, tuple(earlier))
    added: list[Decision] = []
    for number in candidates(router, asked):
        rule = router.rules[number]
        if true_of(rule.conditions, asked):
            decision = _decide(router.config, rule, asked)
            if not rule.continues:
                return Routing(decision, tuple(added))
            added.append(decision)
    # Rules that only add leave the event itself still to be taken.
    fallback = CompiledRule(FALLBACK, (), router.config.routing.fallback, continues=False)
    return Routing(_decide(router.config, fallback, asked), tuple(added))


def candidates(router: Router, asked: Asked) -> Iterator[int]:
    """The numbers of the rules that could be true, in their order, each once."""
    places = [router.index[key] for key in _keys_of(router, asked) if key in router.index]
    alone = sorted(numbers[0] for numbers in places if len(numbers) == 1)
    last = -1
    # What many rules share is read only as far as it is needed.
    for number in merge(router.always, alone, *(numbers for numbers in places if len(numbers) > 1)):
        if number != last:
            yield number
        last = number


def _keys_of(router: Router, asked: Asked) -> Iterator[Key]:
    """Everything in an event that a rule may be indexed by."""
    event = asked.event
    yield from (("channel", event.channel), ("kind", event.kind.value))
    for name in _TEXT_FIELDS:
        value: str = getattr(asked, name)
        if value:
            yield (name, value)
            star = f"{name}*"
            yield from (
                (star, value[:length]) for length in router.prefixes.get(star, ()) if length <= len(value)
            )
    yield from (("words", phrase) for phrase in _phrases_in(router, asked.text.split()))


def _phrases_in(router: Router, said: Sequence[str]) -> set[str]:
    """The phrases of a text that may be some rule's: only where one begins are several words put together."""
    return {
        " ".join(said[place : place + count])
        for place, word in enumerate(said)
        for count in router.phrases.get(word, ())
        if place + count <= len(said)
    }


def _choices(when: When, config: Config) -> list[frozenset[Key]]:
    """Sets of keys, of each of which an event must have one for the conditions to be true; the narrow ones first.

    The index needs only one of the sets; it takes the one whose keys are shared with the fewest other rules.
    """
    found: list[frozenset[Key]] = []
    given = [(name, patterns) for name in _TEXT_FIELDS if (patterns := getattr(when, name))]
    found += [frozenset(_pattern_keys(name, expand(patterns, config))) for name, patterns in given]
    if when.words:
        found.append(frozenset(("words", fold(words)) for words in when.words))
    branches = [_choices(branch, config) for branch in when.any]
    if branches and all(branches):
        found.append(frozenset(key for choices in branches for key in choices[0]))
    found += [keys for branch in when.all for keys in _choices(branch, config)]
    if when.channel:
        found.append(frozenset(("channel", channel) for channel in when.channel))
    if when.kind:
        found.append(frozenset(("kind", kind.value) for kind in when.kind))
    return found


def _pattern_keys(name: str, patterns: Iterable[Pattern]) -> Iterator[Key]:
    for pattern in patterns:
        if pattern.prefix:
            yield (f"{name}*", pattern.low)
        elif pattern.high is not None:
            yield from ((f"{name}*", block) for block in blocks(pattern.low, pattern.high))
        else:
            yield (name, pattern.low)


def _decide(config: Config, rule: CompiledRule, asked: Asked) -> Decision:
    then, routing = rule.then, config.routing
    role = config.roster.roles[then.role]
    priority = then.priority or asked.event.priority or routing.defaults.priority
    names = ", ".join(condition.name for condition in rule.conditions)
    why = f'rule "{rule.id}": {names or "always"}' if rule.id != FALLBACK else "no rule took it: fallback"
    return Decision(
        rule=rule.id,
        role=then.role,
        priority=priority,
        ladder=then.ladder or role_ladder(config, then.role, priority),
        template=then.template or routing.defaults.template,
        retention=then.retention or routing.defaults.retention,
        why=(why,),
        config_hash=config.hash,
        person=then.person,
        room=then.room or (role.stat_room if priority is Priority.STAT else None),
        hold_until=hold_until(config, then.quiet_hours or routing.defaults.quiet_hours, priority, asked.now),
        bundle=then.bundle or routing.defaults.bundle,
        auto_reply=then.auto_reply,
    )


def role_ladder(config: Config, role: RoleId, priority: Priority) -> LadderId:
    """The ladder for pages of a role and a priority, where no rule names one."""
    found = chosen(config.roster.roles[role].ladder, priority) or chosen(
        config.routing.defaults.ladder, priority
    )
    # The defaults have one for each priority, or they would not have been read.
    assert found is not None  # noqa: S101
    return found
