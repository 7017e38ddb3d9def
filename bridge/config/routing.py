"""routing.yaml: which role gets an event, how urgently, and how a page climbs."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bridge.config.ladders import Ladder, LadderChoice, chosen
from bridge.config.times import Clocks, Dates, Hours, Times
from bridge.config.values import Duration, Section, Zone, one_or_more
from bridge.model.event import EventKind
from bridge.model.ids import ChannelId, LadderId, PersonId, RetentionClassId, RoleId, RuleId, TemplateId
from bridge.model.priority import Priority

FALLBACK = RuleId("fallback")

# -------------------------------------------------------------------------------------------- numbers

_FILLER = re.compile(r"[\s().\-/]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """An exact value, all that begin with `low` (prefix), numbers from `low` to `high`, or a list by name."""

    low: str
    high: str | None = None
    prefix: bool = False
    group: str | None = None


def parse_number(value: Any) -> Pattern:
    """Read `+1 555 0100`, `+1555*`, `+15550100..+15550199` or `list:NAME`. Raises `ValueError`."""
    if isinstance(value, Pattern):
        return value
    text = str(value).strip()
    if text.startswith("list:"):
        return Pattern("", group=text.removeprefix("list:").strip())
    low, dots, high = (_FILLER.sub("", part) for part in text.replace("..", "\0").partition("\0"))
    prefix = low.endswith("*") and not dots
    pattern = Pattern(low.removesuffix("*"), high if dots else None, prefix)
    if not re.fullmatch(r"\+?\d+", pattern.low) or (dots and not re.fullmatch(r"\+?\d+", high)):
        raise ValueError("should be a number such as +15550100, +1555*, +15550100..+15550199, or list:NAME")
    if dots and (len(low) != len(high) or high < low):
        raise ValueError("should be a range of numbers of the same length, the lower one first")
    return pattern


def parse_word_pattern(value: Any) -> Pattern:
    """Read a name such as `cardiology` or `cardio*`; letter case does not matter."""
    if isinstance(value, Pattern):
        return value
    text = str(value).strip().casefold()
    return Pattern(text.removesuffix("*"), prefix=text.endswith("*"))


Numbers = Annotated[tuple[Annotated[Pattern, BeforeValidator(parse_number)], ...], one_or_more]
Words = Annotated[tuple[Annotated[Pattern, BeforeValidator(parse_word_pattern)], ...], one_or_more]


def _sayable(text: str) -> str:
    if re.search(r"[^\W_]", text) is None:
        raise ValueError("should have a letter or a digit in it")
    return text


Phrases = Annotated[tuple[Annotated[str, AfterValidator(_sayable)], ...], one_or_more]

# -------------------------------------------------------------------------------------------- rules


LONGEST_REPEAT = timedelta(days=1)
LONGEST_REPLY = 320  # characters: two texts


def _remembered(within: timedelta) -> timedelta:
    if within > LONGEST_REPEAT:
        raise ValueError("should be a day at most: earlier events are not counted")
    return within


class Repeats(Section):
    """The same caller, at least so many times within so long, this one counted."""

    at_least: int = Field(ge=2)
    within: Annotated[Duration, AfterValidator(_remembered)]


class When(Section):
    """The conditions of a rule. Everything that is given must be true; of a list, one is enough.

    An empty `when` is always true.
    """

    channel: Annotated[tuple[ChannelId, ...], one_or_more] = ()
    kind: Annotated[tuple[EventKind, ...], one_or_more] = ()
    called: Numbers = ()
    caller: Numbers = ()
    recipient: Words = ()
    queue: Words = ()
    words: Phrases = ()
    priority: Annotated[tuple[Priority, ...], one_or_more] = ()
    language: Phrases = ()
    attributes: dict[str, Annotated[Words, Field(min_length=1)]] = Field(default_factory=dict)
    hours: Hours = ()
    dates: Dates = ()
    holidays: str | None = None
    time_zone: Zone | None = None
    repeats: Repeats | None = None
    any: tuple[When, ...] = ()
    all: tuple[When, ...] = ()
    not_: When | None = Field(None, alias="not")

    @property
    def times(self) -> Times | None:
        """The part that is about time."""
        if not (self.hours or self.dates or self.holidays):
            return None
        return Times(hours=self.hours, dates=self.dates, holidays=self.holidays)


def _fixed(text: str) -> str:
    """Words that leave the hospital unencrypted: nothing of an event may be put into them."""
    if set("{}") & set(text):
        raise ValueError("is sent as it stands: it has no placeholders")
    if not text.strip() or len(text) > LONGEST_REPLY:
        raise ValueError(f"should have 1 to {LONGEST_REPLY} characters")
    return text.strip()


class Then(Section):
    """What a rule does. What it leaves open is taken from the role, then from `defaults`."""

    role: RoleId
    person: PersonId | None = None
    room: str | None = None
    priority: Priority | None = None
    ladder: LadderId | None = None
    template: TemplateId | None = None
    retention: RetentionClassId | None = None
    quiet_hours: str | None = None
    bundle: Duration | None = None
    auto_reply: Annotated[str, AfterValidator(_fixed)] | None = None


class Rule(Section):
    """A rule: if `when`, then `then`. The first that matches decides; `continue` lets later ones add."""

    id: RuleId | None = None
    when: When = When()
    then: Then
    continue_: bool = Field(default=False, alias="continue")


class Defaults(Section):
    """What holds where neither a rule nor a role says otherwise."""

    priority: Priority = Priority.URGENT
    ladder: LadderChoice
    template: TemplateId
    retention: RetentionClassId
    quiet_hours: str | None = None
    bundle: Duration | None = None

    @model_validator(mode="after")
    def _has_a_ladder_for_every_priority(self) -> Self:
        missing = [priority for priority in Priority if chosen(self.ladder, priority) is None]
        if missing:
            raise ValueError(f"needs a ladder for {missing[0]}, too")
        return self


# -------------------------------------------------------------------------------------------- templates

ATTRIBUTES = "attributes."  # and the name of one that the event has
PLACEHOLDERS = frozenset(
    {
        "body",
        "called",
        "caller",
        "caller_name",
        "count",
        "kind",
        "language",
        "priority",
        "queue",
        "recipient",
        "role",
        "time",
    }
)


def _line(value: Any) -> str:
    text = str(value)
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"has a bracket without its partner: {error}") from None
    if unknown := {name for name in fields - PLACEHOLDERS if not name.startswith(ATTRIBUTES)}:
        known = ", ".join((*sorted(PLACEHOLDERS), f"{ATTRIBUTES}NAME"))
        raise ValueError(f"has an unknown {{{min(unknown)}}}; known: {known}")
    return text


class Template(Section):
    """The lines of a page. A line whose placeholders are all empty is left out."""

    lines: tuple[Annotated[str, BeforeValidator(_line)], ...] = Field(min_length=1)


class QuietHours(Section):
    """When pages of some priorities wait: in `hours` until these end, or until the next `digest`, or both.

    With a digest alone they always wait for it. STAT never waits.
    """

    hours: Hours = ()
    digest: Clocks = ()
    holds: Annotated[tuple[Priority, ...], one_or_more] = (Priority.ROUTINE,)
    time_zone: Zone | None = None

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if not self.hours and not self.digest:
            raise ValueError("needs hours, a digest, or both")
        if Priority.STAT in self.holds:
            raise ValueError("can't hold back stat")
        return self


class RoutingConfig(Section):
    """routing.yaml."""

    defaults: Defaults
    rules: tuple[Rule, ...] = ()
    fallback: Then
    ladders: dict[LadderId, Ladder]
    templates: dict[TemplateId, Template]
    quiet_hours: dict[str, QuietHours] = Field(default_factory=dict)
    lists: dict[str, Numbers] = Field(default_factory=dict)

    def rule_id(self, index: int) -> RuleId:
        """The name of a rule: its own, or its number in the file, counted from 1."""
        return self.rules[index].id or RuleId(f"rule {index + 1}")
