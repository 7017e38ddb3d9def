"""`nightbell explain`: what would happen to an event, step by step."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.known import known
from bridge.cli.moments import moment
from bridge.config import Config
from bridge.config.problems import did_you_mean
from bridge.config.routing import parse_number
from bridge.model.decision import Move, StepKind
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.model.priority import Priority
from bridge.policy.explanation import Climb, Explanation
from bridge.policy.explanation import explain as explain_event
from bridge.policy.routing import compile_rules

_STEPS = {
    None: "first",
    StepKind.RENOTIFY: "again",
    StepKind.NEXT: "next",
    StepKind.BACKUP: "backup",
    StepKind.ROLE: "other role",
    StepKind.EVERYONE: "everyone",
    StepKind.OPERATIONS: "operations",
}


def explain(
    *,
    channel: Annotated[str, typer.Option(help="The channel on which it comes.")],
    to: Annotated[str | None, typer.Option(help="The number that was called.")] = None,
    caller: Annotated[str | None, typer.Option("--from", help="The caller's number.")] = None,
    kind: Annotated[EventKind, typer.Option(help="What happened.")] = EventKind.TEXT,
    text: Annotated[str, typer.Option(help="What was written or said.")] = "",
    recipient: Annotated[str | None, typer.Option(help="Whom the source names.")] = None,
    queue: Annotated[str | None, typer.Option(help="The call center's queue.")] = None,
    language: Annotated[str | None, typer.Option(help="The caller's language, such as de.")] = None,
    priority: Annotated[Priority | None, typer.Option(help="The source's own priority.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="An attribute that the source gives, such as digits=1.")
    ] = None,
    before: Annotated[int, typer.Option(help="How many like events came in the minute before.")] = 0,
    at: Annotated[
        str | None, typer.Option(help="When, in local time: 2026-12-25 02:00. Now, if left out.")
    ] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show which rules are looked at for an event, which decides, and how its page climbs if nobody accepts it."""
    loaded = load_or_exit(config)
    if channel not in loaded.channels:
        raise typer.BadParameter(
            f'channel "{channel}" does not exist{did_you_mean(channel, loaded.channels)}'
        )
    now = moment(at, loaded.roster.time_zone)
    event = IntakeEvent(
        channel=ChannelId(channel),
        key=Phi("explained"),
        kind=kind,
        body=Phi(text),
        caller=protect_optional(_number(caller)),
        called=protect_optional(_number(to)),
        recipient=protect_optional(recipient),
        queue=protect_optional(queue),
        language=language,
        priority=priority,
        attributes=dict(map(_attribute, attribute or ())),
    )
    loaded, changes = known(loaded, now)
    earlier = [now - timedelta(minutes=1)] * before
    explanation = explain_event(compile_rules(loaded), event, now, earlier, changes)
    typer.echo("\n".join(_lines(loaded, explanation, now)))


def _attribute(text: str) -> tuple[str, Phi[str]]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter("--attribute is NAME=VALUE")
    return name, Phi(value)


def _number(text: str | None) -> str | None:
    """A number without the spaces and dashes that people write."""
    try:
        return parse_number(text).low if text is not None else None
    except ValueError:
        return text


def _lines(config: Config, explanation: Explanation, now: datetime) -> list[str]:
    zone = config.roster.time_zone
    lines = [f"At {now.astimezone(zone):%a %Y-%m-%d %H:%M} ({zone.key})", ""]
    file = config.sources["routing.yaml"].file
    for look in explanation.looks:
        sign, said = ("✓", "true") if look.false is None else ("✗", f"{look.false} is not true")
        true = f" ({', '.join(look.true)} true)" if look.true else ""
        lines.append(f"{sign} rule {look.rule} ({file}:{look.line}): {said}{true}")
    if explanation.passed_over:
        lines.append(f"  {explanation.passed_over} more: nothing in the event is what they look for")
    for climb in explanation.climbs:
        lines += ["", *_of_climb(config, climb)]
    return lines


def _of_climb(config: Config, climb: Climb) -> list[str]:
    decision = climb.decision
    role = config.roster.roles[decision.role]
    room = config.roster.rooms[decision.room].name if decision.room else role.room.name
    lines = [
        f"{role.name} ({decision.role}), {decision.priority}: {', '.join(decision.why)}",
        f"  room {room} · ladder {decision.ladder} · template {decision.template} · retention {decision.retention}",
    ]
    zone = config.roster.zone(decision.role)
    if decision.hold_until is not None:
        lines.append(f"  waits until {decision.hold_until.astimezone(zone):%a %H:%M}: quiet hours")
    if decision.auto_reply is not None:
        lines.append(f"  the sender is told, unless they want no texts: {decision.auto_reply}")
    lines += [f"  {at.astimezone(zone):%H:%M:%S}  {_of_move(config, move)}" for at, move in climb.moves]
    return lines


def _of_move(config: Config, move: Move) -> str:
    people = ", ".join(config.roster.people[person].name for person in move.notify)
    skipped = f" (at once: nobody on {', '.join(move.skipped)})" if move.skipped else ""
    return f"{_STEPS[move.kind]:<10}  {people or 'the operations room'}{skipped}"
