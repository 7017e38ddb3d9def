"""What stands in the room: a page's message, always the truth about its state, and what is said beside it.

Everything here is meant for ciphertext: content, numbers and names are revealed into text that is protected
again.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from unicodedata import bidirectional
from zoneinfo import ZoneInfo

import phonenumbers

from bridge.config import Config
from bridge.config.routing import ATTRIBUTES
from bridge.model.decision import Move, StepKind
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import PersonId, UserId
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi, reveal_optional
from bridge.model.priority import Priority
from bridge.policy.commands import help_line

_KINDS = {
    EventKind.TEXT: "Text message",
    EventKind.VOICEMAIL: "Voicemail",
    EventKind.ABANDONED_CALL: "Abandoned call",
    EventKind.MISSED_CALL: "Missed call",
    EventKind.PAGE: "Page",
}
_PRIORITIES = {Priority.STAT: "🔴 STAT", Priority.URGENT: "🟠 Urgent", Priority.ROUTINE: "⚪ Routine"}
# An event may have 64 KiB (Matrix spec, 'Size limits'). Ciphertext is a third longer than what it hides, and an edit
# says everything twice. Counted as JSON writes it, since that is six times as long where nothing is ASCII.
LONGEST = 15_000
LONGEST_NAME = 1_000
LONGEST_ATTRIBUTE = 600
# A step that is later than this says so; less is the normal working of a loop.
_WORTH_A_WORD = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class PageText:
    """A message for a room: as plain text and as Matrix HTML, whom it mentions, and whether it stays quiet."""

    plain: Phi[str]
    html: Phi[str]
    mentions: tuple[UserId, ...]
    notice: bool


def render(config: Config, page: Page, event: IntakeEvent, now: datetime, count: int = 1) -> PageText:
    """The message of a page in its present state: sent when it opens, edited whenever that changes.

    `count` is how many events it bundles; the event shown is the latest.
    """
    lines = config.routing.templates[page.template].lines
    values = _values(config, page, event, now, count)
    below = [line for line in (status_line(config, page, now), help_line(page.state)) if line]
    plain = [text for line in lines if (text := _fill(line, values))]
    safe = {name: as_html(value) for name, value in values.items()}
    html = [text for line in lines if (text := _fill(escape(line, quote=False), safe))]
    html[:1] = [f"<strong>{first}</strong>" for first in html[:1]]
    return PageText(
        plain=Phi("\n".join([*plain, "", *below])),
        html=Phi("<br>".join(html) + "<br><br>" + "<br>".join(f"<em>{escape(line)}</em>" for line in below)),
        mentions=_mentions(config, page.priority, page.notified if page.state.waiting else ()),
        notice=page.priority is Priority.ROUTINE,
    )


def render_move(config: Config, page: Page, move: Move, now: datetime) -> PageText:
    """What is said in the room when a page climbs: an edit wakes nobody, a new message does.

    It stands as a reply to the page, and holds nothing of its content. For a step that tells operations, it
    is the message for the operations room.
    """
    since = f"open since {clock(page.opened_at, config.roster.zone(page.role), now)}"
    duty = config.roster.roles[page.role].name
    if move.kind is StepKind.OPERATIONS or not move.notify:
        tried = _names(config, page.notified) or "nobody"
        said = f"{_PRIORITIES[page.priority]} · {duty}: a page is not accepted, {since}; notified: {tried}"
    else:
        said = f"{_names(config, move.notify)}: please accept · {duty}, {since}"
    if move.skipped:
        said += f" · nobody could be reached on {', '.join(move.skipped)}"
    if move.late_by >= _WORTH_A_WORD:
        said += f" · this comes {duration(move.late_by)} late"
    mentions = _mentions(config, page.priority, move.notify)
    return PageText(Phi(said), Phi(escape(said)), mentions, page.priority is Priority.ROUTINE)


def render_again(config: Config, page: Page) -> PageText:
    """What is said when a like event has joined a page, since the edit that shows it wakes nobody."""
    who = () if page.state.waiting else ((page.accepted_by,) if page.accepted_by else ())
    mentions = _mentions(config, page.priority, page.notified[-1:]) if page.state.waiting else who
    said = f"The same caller again, {page.count} times by now: see the page above."
    quiet = page.priority is Priority.ROUTINE
    return PageText(Phi(said), Phi(escape(said)), () if quiet else mentions, quiet)


def status_line(config: Config, page: Page, now: datetime) -> str:
    """One line about a page's state: `Open since 02:00 · notified Dr. Ada Okafor`."""
    zone = config.roster.zone(page.role)
    accepted = ""
    if page.accepted_by is not None and page.accepted_at is not None:
        accepted = f"ccepted by {_user(config, page.accepted_by)} at {clock(page.accepted_at, zone, now)}"
    if page.state is PageState.ACCEPTED:
        return f"A{accepted}"
    if page.state is PageState.CLOSED:
        return f"Closed · a{accepted}" if accepted else "Closed"
    if page.state is PageState.EXPIRED:
        return f"Expired · nobody accepted; notified {_names(config, page.notified) or 'nobody'}"
    reached = "" if page.state is PageState.OPEN else f" · {page.state.value}"
    notified = f"notified {_names(config, page.notified)}" if page.notified else "nobody could be notified"
    return f"Open since {clock(page.opened_at, zone, now)} · {notified}{reached}"


def shortened(text: str, longest: int = LONGEST, form: Callable[[str], str] = str) -> str:
    """A text, or as much of it as can be sent with its HTML beside it. The whole of it stays in the vault.

    `form` is what is made of it: that is what must fit.
    """
    if _weight(whole := form(text)) <= longest:
        return whole
    fits, too_much = 0, len(text)
    while too_much - fits > 1:
        middle = (fits + too_much) // 2
        fits, too_much = (middle, too_much) if _weight(form(text[:middle])) <= longest else (fits, middle)
    left = len(text) - fits
    return f"{form(text[:fits])}… [{left} more characters do not fit into a message; they are kept]"


def _weight(text: str) -> int:
    return len(json.dumps(text)) + len(json.dumps(as_html(text)))


def clock(at: datetime, zone: ZoneInfo, now: datetime) -> str:
    """A time of day, and the day too if it is another than today's."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%a %d %b %H:%M}"


def duration(length: timedelta) -> str:
    """A length of time in its two largest units: `2 h 5 min`."""
    rest = round(length.total_seconds())
    parts: list[str] = []
    for name, seconds in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def _values(config: Config, page: Page, event: IntakeEvent, now: datetime, count: int) -> dict[str, str]:
    zone = config.roster.zone(page.role)
    said = event.attributes.items()
    attributes = {
        f"{ATTRIBUTES}{name}": shortened(text.reveal(), LONGEST_ATTRIBUTE, isolated_lines)
        for name, text in said
    }
    return attributes | {
        "priority": _PRIORITIES[page.priority],
        "kind": _KINDS[event.kind],
        "role": config.roster.roles[page.role].name,
        "caller": _name(number(event.caller)),
        "caller_name": _name(reveal_optional(event.caller_name) or ""),
        "called": _name(number(event.called)),
        "recipient": _name(reveal_optional(event.recipient) or ""),
        "queue": _name(reveal_optional(event.queue) or ""),
        "language": event.language or "",
        "time": clock(event.occurred_at or page.opened_at, zone, now),
        "body": shortened(event.body.reveal(), form=isolated_lines),
        "count": f"{count} times" if count > 1 else "",
    }


def _name(text: str) -> str:
    return shortened(text, LONGEST_NAME, isolated)


def isolated_lines(text: str) -> str:
    """A text of which no line turns round anything beside it."""
    return "\n".join(map(isolated, text.split("\n")))


def isolated(text: str) -> str:
    """A line that turns round nothing beside it, whatever its direction (Unicode, UAX 9): not a number to call back."""
    if not any(bidirectional(character) in _DIRECTED for character in text):
        return text
    depth = lowest = 0
    for character in text:
        depth += (character in "\u2066\u2067\u2068") - (character == "\u2069")
        lowest = min(lowest, depth)
    return "\u2068" * (1 - lowest) + text + "\u2069" * (1 - lowest + depth)


# Right-to-left letters and numbers, and what marks, embeds, overrides and isolates.
_DIRECTED = frozenset({"R", "AL", "AN", "LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def number(written: Phi[str] | None) -> str:
    """A number as people write it, or as it came."""
    text = reveal_optional(written) or ""
    try:
        parsed = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return text
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def _fill(line: str, values: Mapping[str, str]) -> str:
    """A template's line with its values; empty if it has placeholders and all of them are."""
    parts = [(literal, name) for literal, name, _, _ in string.Formatter().parse(line)]
    names = [name for _, name in parts if name is not None]
    if names and not any(values.get(name) for name in names):
        return ""
    text = "".join(literal + (values.get(name, "") if name is not None else "") for literal, name in parts)
    # An empty value between two others leaves two spaces; the words of a message stay as they were written.
    return text if "body" in names else " ".join(text.split())


def as_html(text: str) -> str:
    """A text as Matrix HTML."""
    return escape(text).replace("\n", "<br>")


def _names(config: Config, people: Iterable[PersonId]) -> str:
    return ", ".join(config.roster.people[p].name if p in config.roster.people else p for p in people)


def _user(config: Config, user: UserId) -> str:
    person = config.roster.person_of(user)
    return config.roster.people[person].name if person is not None else user


def _mentions(config: Config, priority: Priority, people: Iterable[PersonId]) -> tuple[UserId, ...]:
    """Routine pages mention nobody: they are there to be found, not to wake."""
    if priority is Priority.ROUTINE:
        return ()
    return tuple(config.roster.people[p].matrix for p in people if p in config.roster.people)
