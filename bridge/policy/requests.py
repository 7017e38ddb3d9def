"""What a clinician's command comes to: whether they may, whom they mean, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from bridge.config import Config
from bridge.config.values import parse_duration
from bridge.model.ids import PersonId, RoleId, UserId
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.commands import NotUnderstood, Verb
from bridge.policy.conditions import fold
from bridge.policy.schedule import Change, holders, on_leave, shift_at

_SNOOZE = timedelta(minutes=10)
# Longer, and a page would be forgotten by the one person who knows of it.
_LONGEST_SNOOZE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a command means: a role, or a person."""

    role: RoleId | None = None
    person: PersonId | None = None


def refusal(config: Config, verb: Verb, role: RoleId, user: UserId, page: Page | None = None) -> str | None:
    """Why somebody may not do what they ask, said to them; None if they may.

    Everybody in the room may ask who is on call. What changes a page or a shift is for the role's people, calling
    back for whoever accepted, since it shows the caller's number, and recalling, since nobody else may need it.
    """
    if verb in (Verb.HELP, Verb.ONCALL):
        return None
    person = config.roster.person_of(user)
    if person is None:
        return "I don't know your account. An administrator can add it to roles.yaml."
    if person not in members(config, role):
        return f"That is for {config.roster.roles[role].name}, which you are not a member of."
    if verb is Verb.RECALL and page is not None:
        return None if page.accepted_by == user else "Accept the page first; then you can recall it."
    # An afterthought to a page's sender is welcome when it is closed, too.
    return None if page is None or verb is Verb.ANSWER else _refusal_of_page(verb, page, user)


def _refusal_of_page(verb: Verb, page: Page, user: UserId) -> str | None:
    over = page.state in (PageState.CLOSED, PageState.EXPIRED)
    if over:
        return "This page is closed."
    if verb in (Verb.DECLINE, Verb.SNOOZE) and not page.state.waiting:
        return "Somebody has accepted this page already."
    if verb is Verb.SNOOZE and page.priority is Priority.STAT:
        return "A STAT page can't wait. Accept it, or decline it so that it moves on."
    if verb is Verb.CALL_BACK and page.accepted_by != user:
        return "Accept the page first; then I show you the number."
    if verb is Verb.CLOSE and page.state is not PageState.ACCEPTED:
        return "Accept the page first; then you can close it."
    return None


def members(config: Config, role: RoleId) -> tuple[PersonId, ...]:
    """Everybody who may be paged for a role: its members and its backup."""
    of = config.roster.roles[role]
    return config.roster.persons((*of.members, *((of.backup,) if of.backup else ())))


def find_target(config: Config, said: Phi[str]) -> Target | NotUnderstood:
    """The role or the person that somebody names, by id, by name or by a part of it that fits only one."""
    roster = config.roster
    names: dict[str, Target] = {}
    for role_id, role in roster.roles.items():
        names |= {fold(role_id): Target(role=role_id), fold(role.name): Target(role=role_id)}
    for person_id, person in roster.people.items():
        names |= {fold(person_id): Target(person=person_id), fold(person.name): Target(person=person_id)}
    wanted = fold(said.reveal())
    if wanted in names:
        return names[wanted]
    parts = {target for name, target in names.items() if wanted and f" {wanted}" in f" {name}"}
    near = parts or {names[name] for name in get_close_matches(wanted, names, n=3, cutoff=0.75)}
    if len(near) == 1:
        return near.pop()
    if near:
        either = " or ".join(sorted(target.role or target.person or "" for target in near))
        return NotUnderstood(f"Whom do you mean: {either}?")
    return NotUnderstood("I know no role and no person of that name.")


def roles_of(config: Config, target: Target) -> list[RoleId]:
    """In which roles' rooms a target can be asked."""
    if target.person is None:
        return [target.role] if target.role is not None else []
    return [role for role in config.roster.roles if target.person in members(config, role)]


def snooze_for(said: Phi[str]) -> timedelta | NotUnderstood:
    """How long a page shall wait: `snooze 5`, `snooze 15 min`, or ten minutes."""
    text = said.reveal().strip()
    try:
        length = parse_duration(f"{text} min" if text.isdigit() else text) if text else _SNOOZE
    except ValueError:
        return NotUnderstood("I didn't understand how long. Write: snooze 10 min")
    if length > _LONGEST_SNOOZE:
        return NotUnderstood("A page can wait for an hour at most.")
    return length


def take(
    config: Config, role: RoleId, person: PersonId, now: datetime, changes: tuple[Change, ...] = ()
) -> Change | NotUnderstood:
    """Somebody takes a role until its present shift ends."""
    shift = shift_at(config, role, now, changes)
    if shift.holders[:1] == (person,):
        return NotUnderstood("You have it already.")
    return Change(role, now, shift.until, person)


def give(
    config: Config,
    role: RoleId,
    person: PersonId,
    now: datetime,
    changes: tuple[Change, ...] = (),
    *,
    to: PersonId,
) -> Change | NotUnderstood:
    """The holder of a role gives it to another of its people until the present shift ends."""
    if holders(config, role, now, changes)[:1] != (person,):
        return NotUnderstood("You don't have it now, so you can't give it.")
    name = config.roster.people[to].name
    if to not in members(config, role):
        return NotUnderstood(f"{name} is no member of {config.roster.roles[role].name}.")
    if on_leave(config.roster, to, now):
        return NotUnderstood(f"{name} is on leave.")
    return take(config, role, to, now, changes)
