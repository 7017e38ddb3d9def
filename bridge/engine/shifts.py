"""Hand-overs: who holds what is recorded, said in the role's room, and looked after half an hour before."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from bridge.config import Config
from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.engine.messages import message
from bridge.ledger import Action, Record
from bridge.model.doors import Destination
from bridge.model.ids import PersonId, RoleId
from bridge.policy import schedule
from bridge.policy.rendering import duration
from bridge.policy.schedule import BEFORE_HAND_OVER, Change, HandOver, holders
from bridge.policy.summaries import render_call_up, render_hand_over
from bridge.store import ledger, outbox, pages, shifts
from bridge.store.outbox import Draft, Purpose
from bridge.store.shifts import Held

LOOK_SECONDS = 5.0
INSTANT = timedelta(microseconds=1)
# Whoever was asked into the room just now has this long to join it.
JOINING = timedelta(seconds=30)

log = structlog.get_logger(__name__)


class Shifts:
    """Looks at every role's holder every few seconds, and acts on what has changed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._recorded: dict[RoleId, Held | None] = {}
        self._called: dict[RoleId, frozenset[PersonId]] | None = None
        # Who takes over soon, and when to find out whether they could read; None once that was done.
        self._coming: dict[RoleId, tuple[PersonId, datetime | None]] = {}

    async def step(self) -> float | None:
        """Record and announce hand-overs that have happened; check the next ones. Returns when to look again."""
        config, now = self._desk.rulebook().config, self._desk.now()
        await self._follow_pages(config)
        for role in config.roster.roles:
            present = _first(holders(config, role, now, self._desk.situation.changes))
            soon = _first(holders(config, role, now + BEFORE_HAND_OVER, self._desk.situation.changes))
            at_start = role not in self._recorded
            if at_start:
                async with self._desk.database.read() as connection:
                    self._recorded[role] = await shifts.held_at(connection, role, now)
            recorded = self._recorded[role]
            if at_start or recorded is None or recorded.holder != present:
                await self._hand_over(config, role, recorded, present, now)
            if soon is not None and soon != present:
                await self._look_after(config, role, soon, now)
            else:
                self._coming.pop(role, None)
        return LOOK_SECONDS

    async def _follow_pages(self, config: Config) -> None:
        """Rooms that follow the shift are for those, too, whom pages have come to, and no longer than that."""
        async with self._desk.database.read() as connection:
            await self._desk.situation.load_pages(connection, config)
        called = {role: self._desk.situation.called_in(role) for role in config.roster.roles}
        if self._called is not None and called != self._called:
            self._desk.bells.readiness.ring()
        self._called = called

    async def _hand_over(
        self, config: Config, role: RoleId, recorded: Held | None, present: PersonId | None, now: datetime
    ) -> None:
        changed = recorded is None or recorded.holder != present
        async with self._desk.database.write() as connection:
            records = [_held(config, role, now, present)] if changed else []
            if recorded is not None:
                made = await shifts.changes(connection, recorded.start)
                records = gone_by(config, recorded, now, made) or records
            for record in records:
                await shifts.record_holder(connection, record)
                objects = {"role": role, "holder": record.holder or "nobody", "config": config.hash}
                await ledger.append(connection, [Record(Action.HANDED_OVER, objects=objects)], now)
            if recorded is not None and changed:
                outgoing = recorded.holder if recorded.holder in config.roster.people else None
                hand_over = HandOver(role, now, outgoing, present)
                text = render_hand_over(config, hand_over, await pages.open_of_role(connection, role), now)
                key = await self._desk.keys.new_data_key(connection, operations.OPERATIONS_CLASS, now)
                said = Draft(Destination(role), Purpose.NOTICE, message(text), key)
                await outbox.put(connection, [said], now)
        if not records:
            return
        self._recorded[role] = records[-1]
        log.info("role_handed_over", role=role, holder=present)
        self._desk.bells.readiness.ring()
        self._desk.bells.deliver.ring()

    async def _look_after(self, config: Config, role: RoleId, incoming: PersonId, now: datetime) -> None:
        """Half an hour before a hand-over, find out whether the incoming person could read the room."""
        known, look_at = self._coming.get(role, (None, None))
        if known != incoming:
            self._coming[role] = (incoming, now + JOINING)
            self._desk.bells.readiness.ring()
            return
        if look_at is None or now < look_at:
            return
        self._coming[role] = (incoming, None)
        reachable = await self._desk.situation.reachable(config, [Destination(role)])
        duty, person = config.roster.roles[role].name, config.roster.people[incoming]
        if not reachable(role, incoming):
            text = (
                f"⚠️ {person.name} takes over {duty} within half an hour and could not read a page: not in the "
                "room, or without a verified session. Pages would pass them by."
            )
            async with self._desk.database.write() as connection:
                await operations.tell(connection, self._desk.keys, text, self._desk.now())
            self._desk.bells.deliver.ring()
            return
        seen = await self._desk.situation.last_active(person.matrix)
        if seen is not None and now - seen > config.roster.seen_within:
            await self._call_up(config, role, incoming, now - seen)

    async def _call_up(self, config: Config, role: RoleId, incoming: PersonId, silent: timedelta) -> None:
        """Ask somebody who takes over, and whose devices have been silent for long, for a sign; tell operations."""
        duty, person = config.roster.roles[role].name, config.roster.people[incoming]
        text = (
            f"⚠️ {person.name} takes over {duty} within half an hour, and none of their devices has been seen for "
            f"{duration(silent)}. They were asked in the room; please call them."
        )
        asked = render_call_up(config, role, incoming, silent)
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, self._desk.now())
            key = await self._desk.keys.new_data_key(
                connection, operations.OPERATIONS_CLASS, self._desk.now()
            )
            await outbox.put(
                connection, [Draft(Destination(role), Purpose.NOTICE, message(asked), key)], self._desk.now()
            )
        log.warning("incoming_not_seen", role=role, person=incoming)
        self._desk.bells.deliver.ring()


def gone_by(config: Config, recorded: Held, now: datetime, changes: tuple[Change, ...]) -> list[Held]:
    """The hand-overs since the last record, each at its own time, also those of an outage.

    None if they can't be told: another configuration was in force, or a calendar has changed.
    """
    if recorded.config_hash != config.hash:
        return []
    found, holder = [], recorded.holder
    for shift in schedule.shifts(config, recorded.role, recorded.start, now + INSTANT, changes):
        if (following := _first(shift.holders)) != holder:
            found.append(_held(config, recorded.role, shift.start, following))
        holder = following
    told = holder == _first(holders(config, recorded.role, now, changes))
    return found if told and all(record.start > recorded.start for record in found) else []


def _held(config: Config, role: RoleId, start: datetime, holder: PersonId | None) -> Held:
    user = config.roster.people[holder].matrix if holder else None
    return Held(role, start, holder, user, config.hash)


def _first(people: tuple[PersonId, ...]) -> PersonId | None:
    return people[0] if people else None
