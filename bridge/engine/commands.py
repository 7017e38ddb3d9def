"""What becomes of a clinician's command: each verb is one function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine import page_message
from bridge.engine.messages import message
from bridge.engine.recall import recall
from bridge.engine.situation import Situation, destination_of
from bridge.ledger import Action, Record
from bridge.model.decision import Move
from bridge.model.doors import Destination, RoomMessage
from bridge.model.ids import PersonId, RoleId
from bridge.model.page import Page
from bridge.model.phi import reveal_optional
from bridge.model.priority import Priority
from bridge.policy.answering import answer_to
from bridge.policy.commands import HELP, Command, NotUnderstood, Verb
from bridge.policy.ladder import Reachable
from bridge.policy.rendering import clock, duration, number, render_move, status_line
from bridge.policy.requests import Target, find_target, give, refusal, roles_of, snooze_for, take
from bridge.policy.schedule import Change, on_call, on_leave
from bridge.policy.summaries import on_call_line
from bridge.store import ledger, outbox, pages, reports, shifts
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose

WHICH = "Several pages are waiting. Tap ✅ under yours, or reply to it."
NOTHING = "No page is waiting here."
NO_ROLE = "Write that in the room of the role."
STILL_WAITING = "The sender is told. The page still waits for somebody to accept it: tap ✅."
UNKNOWN_NUMBER = "The caller's number is not known."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command, with all that it is about."""

    connection: AsyncConnection
    keys: KeyRing
    inbox: IntakeStore
    config: Config
    situation: Situation
    reachable: Reachable
    said: RoomMessage
    destination: Destination
    command: Command
    page: Page | None
    now: datetime

    @property
    def person(self) -> PersonId | None:
        """Who asks, if roles.yaml knows them."""
        return self.config.roster.person_of(self.said.sender)

    @property
    def name(self) -> str:
        """Who asks, as people call them."""
        return self.config.roster.people[self.person].name if self.person else self.said.sender

    async def show(self, page: Page, note: str) -> None:
        """Show the page as it now stands, and add a line to its history."""
        await page_message.show(self.connection, self.inbox, self.config, page.id, self.now, note=note)


async def obey(asked: Asked) -> str | None:
    """Do what was asked. Returns what to say to whoever asked, or None where the room shows it."""
    verb = asked.command.verb
    if asked.page is None and verb in ABOUT_A_PAGE:
        waiting = await pages.waiting_pages(asked.connection, asked.said.room)
        if len(waiting) != 1:
            return WHICH if waiting else NOTHING
        asked = replace(asked, page=waiting[0])
    role = asked.page.role if asked.page else asked.destination.role
    if role is None:
        return HELP if verb is Verb.HELP else NO_ROLE
    page = asked.page.id if asked.page else None
    if refused := refusal(asked.config, verb, role, asked.said.sender, asked.page):
        log.info("command_refused", verb=verb.value, by=asked.said.sender, page=page)
        await _record(asked, Action.REFUSED, "not_allowed")
        return refused
    answer = await VERBS[verb](asked, role)
    if verb in RECORDED:
        await _record(asked, RECORDED[verb], "done" if answer is None else "answered")
    log.info("command_obeyed", verb=verb.value, by=asked.said.sender, page=page)
    return answer


async def _record(asked: Asked, action: Action, outcome: str) -> None:
    said, page = asked.said, asked.page.id if asked.page else None
    objects = {"command": asked.command.verb.value, "room": said.room, "event": said.event}
    record = Record(action, said.sender, page=page, objects=objects, outcome=outcome)
    await ledger.append(asked.connection, [record], asked.now)


async def _accept(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    if await pages.accept_page(asked.connection, page.id, asked.said.sender, asked.now):
        await asked.show(page, f"{asked.name} accepted")
        return None
    return None if page.accepted_by == asked.said.sender else f"{status_line(asked.config, page, asked.now)}."


async def _decline(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    if asked.person is None or asked.person in page.declined:
        return None
    await pages.decline_page(asked.connection, page, asked.person)
    if asked.person in page.notified:
        await pages.hurry(asked.connection, page.id, asked.now)
    await asked.show(page, f"{asked.name} declined")
    return None


async def _forward(asked: Asked, role: RoleId) -> str | None:
    page = _page(asked)
    target = find_target(asked.config, asked.command.argument)
    if isinstance(target, NotUnderstood):
        return target.answer
    to_role, people = _receivers(asked, target, role)
    if not people:
        return "Nobody can be reached there: on leave, not in the room, or without a verified session."
    steps = asked.config.routing.ladders[page.ladder].steps
    move = Move(0, None, people, to_role, asked.now + steps[0].after)
    stat_room = asked.config.roster.roles[to_role].stat_room if page.priority is Priority.STAT else None
    room = page.room if to_role == role else stat_room
    await pages.hand_page(asked.connection, page.id, move, room)
    await asked.situation.load_pages(asked.connection, asked.config)
    handed = await pages.get_page(asked.connection, page.id)
    event, key = await asked.inbox.event_of(asked.connection, page.latest or page.intake)
    destination = destination_of(asked.config, to_role, room)
    drafts: list[Draft] = []
    main = dict(await outbox.messages_of(asked.connection, page.id)).get(destination)
    if main is None:
        drafts = page_message.post(asked.config, handed, event, key, asked.now, to=destination)
        main = drafts[0].transaction
    nudge = message(render_move(asked.config, handed, move, asked.now))
    urgency = page.priority.rank
    drafts.append(Draft(destination, Purpose.NUDGE, nudge, key, urgency=urgency, page=page.id, target=main))
    await outbox.put(asked.connection, drafts, asked.now)
    names = ", ".join(asked.config.roster.people[person].name for person in people)
    await asked.show(handed, f"{asked.name} forwarded it to {names}")
    return None


def _receivers(asked: Asked, target: Target, role: RoleId) -> tuple[RoleId, tuple[PersonId, ...]]:
    """Who gets a forwarded page, and in which role's room."""
    config = asked.config
    if target.role is not None:
        order = on_call(config, target.role, asked.now, asked.situation.changes)
        return target.role, tuple(p for p in order if asked.reachable(target.role, p))[:1]
    person = target.person
    if person is None or on_leave(config.roster, person, asked.now):
        return role, ()
    # Where the page stands, if they can read it there.
    homes = sorted(roles_of(config, target), key=lambda home: home != role)
    home = next((home for home in homes if asked.reachable(home, person)), None)
    return (home, (person,)) if home is not None else (role, ())


async def _answer(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    about = page.latest or page.intake
    event, key = await asked.inbox.event_of(asked.connection, about)
    answered = answer_to(event, asked.command.argument, asked.now)
    if isinstance(answered, NotUnderstood):
        return answered.answer
    await reports.note_answer(asked.connection, about, event.channel, answered, key)
    await pages.mark_read(asked.connection, page.id)
    await asked.show(page, f"{asked.name} answered: {answered.text.reveal()}")
    return STILL_WAITING if page.state.waiting else None


async def _call_back(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    event, _ = await asked.inbox.event_of(asked.connection, page.latest or page.intake)
    shown = number(event.caller)
    name = reveal_optional(event.caller_name)
    return f"{name}: {shown}" if name and shown else shown or UNKNOWN_NUMBER


async def _close(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    await pages.close_page(asked.connection, page.id, asked.now)
    outcome = asked.command.argument.reveal()
    await asked.show(page, f"{asked.name} closed it" + (f": {outcome}" if outcome else ""))
    return None


async def _oncall(asked: Asked, role: RoleId) -> str | None:
    return on_call_line(asked.config, role, asked.now, asked.situation.changes)


async def _take(asked: Asked, role: RoleId) -> str | None:
    assert asked.person is not None  # noqa: S101 - `refusal` lets only people of the role through
    return await _change(asked, take(asked.config, role, asked.person, asked.now, asked.situation.changes))


async def _give(asked: Asked, role: RoleId) -> str | None:
    assert asked.person is not None  # noqa: S101 - `refusal` lets only people of the role through
    target = find_target(asked.config, asked.command.argument)
    if isinstance(target, NotUnderstood):
        return target.answer
    if target.person is None:
        return "A shift is given to a person."
    changes = asked.situation.changes
    return await _change(asked, give(asked.config, role, asked.person, asked.now, changes, to=target.person))


async def _change(asked: Asked, change: Change | NotUnderstood) -> str:
    if isinstance(change, NotUnderstood):
        return change.answer
    await shifts.add_change(asked.connection, change, asked.said.sender, asked.now)
    await asked.situation.load(asked.connection)
    zone = asked.config.roster.zone(change.role)
    name = asked.config.roster.people[change.holder].name
    return f"{name} has {asked.config.roster.roles[change.role].name} until {clock(change.until, zone, asked.now)}."


async def _snooze(asked: Asked, _role: RoleId) -> str | None:
    page = _page(asked)
    length = snooze_for(asked.command.argument)
    if isinstance(length, NotUnderstood):
        return length.answer
    await pages.wait_until(asked.connection, page, asked.now + length)
    await asked.show(page, f"{asked.name} will look in {duration(length)}")
    return None


async def _recall(asked: Asked, _role: RoleId) -> str | None:
    return await recall(asked.connection, asked.keys, asked.said, asked.page, asked.now)


async def _help(_asked: Asked, _role: RoleId) -> str | None:
    return HELP


def _page(asked: Asked) -> Page:
    assert asked.page is not None  # noqa: S101 - `obey` finds the page of these verbs
    return asked.page


VERBS: dict[Verb, Callable[[Asked, RoleId], Awaitable[str | None]]] = {
    Verb.ACCEPT: _accept,
    Verb.DECLINE: _decline,
    Verb.FORWARD: _forward,
    Verb.ANSWER: _answer,
    Verb.CALL_BACK: _call_back,
    Verb.CLOSE: _close,
    Verb.ONCALL: _oncall,
    Verb.TAKE: _take,
    Verb.GIVE: _give,
    Verb.SNOOZE: _snooze,
    Verb.RECALL: _recall,
    Verb.HELP: _help,
}
RECORDED = {
    Verb.ACCEPT: Action.ACCEPTED,
    Verb.DECLINE: Action.DECLINED,
    Verb.FORWARD: Action.FORWARDED,
    Verb.ANSWER: Action.ANSWERED,
    Verb.CALL_BACK: Action.NUMBER_SHOWN,
    Verb.CLOSE: Action.CLOSED,
    Verb.SNOOZE: Action.SNOOZED,
    Verb.TAKE: Action.SHIFT_CHANGED,
    Verb.GIVE: Action.SHIFT_CHANGED,
}
ABOUT_A_PAGE = frozenset(
    {Verb.ACCEPT, Verb.ANSWER, Verb.DECLINE, Verb.FORWARD, Verb.CALL_BACK, Verb.CLOSE, Verb.SNOOZE}
)
