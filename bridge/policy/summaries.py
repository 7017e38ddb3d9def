"""Messages about more than one page: who is on call, what a hand-over leaves open, and what a digest gathers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from bridge.config import Config
from bridge.model.event import IntakeEvent
from bridge.model.ids import PersonId, RoleId, UserId
from bridge.model.page import Page
from bridge.model.phi import Phi, reveal_optional
from bridge.policy.rendering import PageText, clock, duration, status_line
from bridge.policy.schedule import Change, HandOver, holders, next_hand_over


def on_call_line(config: Config, role: RoleId, now: datetime, changes: Iterable[Change] = ()) -> str:
    """Who holds a role, until when, and who then: `Cardiology on call: Dr. Okafor until Mon 30 Nov 08:00, then ...`."""
    changes = tuple(changes)
    roster, zone = config.roster, config.roster.zone(role)
    present = holders(config, role, now, changes)
    holder = roster.people[present[0]].name if present else "nobody"
    following = next_hand_over(config, role, now, changes)
    if following is None:
        return f"{roster.roles[role].name}: {holder}"
    then = roster.people[following.incoming].name if following.incoming else "nobody"
    return f"{roster.roles[role].name}: {holder} until {clock(following.at, zone, now)}, then {then}"


def render_hand_over(config: Config, hand_over: HandOver, pages: Sequence[Page], now: datetime) -> PageText:
    """What is said in a role's room as it goes over: to whom, and the state of each page that is still open."""
    people = config.roster.people
    incoming, outgoing = hand_over.incoming, hand_over.outgoing
    name = people[incoming].name if incoming else "Nobody"
    lines = [f"{name} now has {config.roster.roles[hand_over.role].name}."]
    if outgoing:
        lines[0] += f" Thank you, {people[outgoing].name}."
    lines += [f"{len(pages)} open:", *(status_line(config, page, now) for page in pages)] if pages else []
    mentions = (people[incoming].matrix,) if incoming and pages else ()
    return _text(lines, mentions, notice=not mentions)


def render_call_up(config: Config, role: RoleId, incoming: PersonId, silent: timedelta) -> PageText:
    """What rings somebody who takes over soon, and whose devices have not been seen for so long."""
    person = config.roster.people[incoming]
    duty = config.roster.roles[role].name
    line = (
        f"{person.name}: you take over {duty} within half an hour, and none of your devices has been seen for "
        f"{duration(silent)}. If you read this, all is well."
    )
    return _text([line], (person.matrix,), notice=False)


def render_digest(config: Config, pages: Sequence[tuple[Page, IntakeEvent]], now: datetime) -> PageText:
    """The pages that waited for a digest, each in a line, as one quiet message."""
    lines = [f"{len(pages)} routine page{'' if len(pages) == 1 else 's'} since the last digest:"]
    for page, event in pages:
        at = clock(page.opened_at, config.roster.zone(page.role), now)
        sender = reveal_optional(event.caller_name) or reveal_optional(event.caller) or event.channel
        lines.append(f"{at} · {sender}: {' '.join(event.body.reveal().split())}")
    return _text(lines, (), notice=True)


def _text(lines: Sequence[str], mentions: tuple[UserId, ...], *, notice: bool) -> PageText:
    return PageText(Phi("\n".join(lines)), Phi("<br>".join(map(escape, lines))), mentions, notice)
