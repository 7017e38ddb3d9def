"""From the inbox to pages: an event's decision, page, messages and timer are one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.config.routing import LONGEST_REPEAT
from bridge.engine import operations, page_message
from bridge.engine.desk import Desk
from bridge.engine.messages import message
from bridge.engine.situation import destination_of, is_known, places, room_of
from bridge.ledger import Action, Record
from bridge.model import in_hand
from bridge.model.decision import Decision
from bridge.model.errors import StoreUnavailableError
from bridge.model.event import IntakeEvent
from bridge.model.ids import IntakeId, PageId, RetentionClassId
from bridge.model.phi import Phi
from bridge.policy import ladder
from bridge.policy.rendering import render_again, render_move
from bridge.policy.routing import route
from bridge.policy.waiting import bundle_key, joins
from bridge.store import ledger, outbox, pages
from bridge.store.inbox import CALLER, IntakeRow, LockedRow
from bridge.store.outbox import Draft, Purpose
from bridge.store.pages import Opening
from bridge.vault import Key

BATCH = 50
QUOTED_CHARACTERS = 2_000  # of an unreadable request; the whole of it stays in the vault

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Work:
    """What a batch of events becomes."""

    classes: list[tuple[Key, RetentionClassId]] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    joining: list[tuple[PageId, IntakeId]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


class Dispatch:
    """Takes events in the order in which they were accepted."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def step(self) -> float | None:
        """Route what waits, all of it in one transaction. Returns 0 if more may wait, else None."""
        async with self._desk.database.read() as connection:
            found = await self._desk.inbox.waiting(connection, BATCH)
        if not found:
            return None
        for row in found:
            if isinstance(row, LockedRow):
                await self._tell_of_locked(row)
        waiting = [row for row in found if isinstance(row, IntakeRow)]
        try:
            await self._take(waiting)
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("batch_failed", error=type(error).__name__)
            for row in waiting:
                await self._take_alone(row)
        self._desk.bells.decided()
        return 0 if len(found) == BATCH else None

    async def _tell_of_locked(self, row: LockedRow) -> None:
        log.error("event_locked", intake=row.id, channel=row.channel)
        text = (
            f"🚨 {row.channel}: an event does not open: its row {row.id} was changed, or its key is missing. "
            "Nobody was paged. Ask the source what it sent, and compare with a backup."
        )
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, self._desk.now())
            await self._desk.inbox.mark_routed(connection, [row.id])

    async def _take_alone(self, row: IntakeRow) -> None:
        """One event that can't be routed must keep no other from it: operations get it as it came."""
        try:
            await self._take([row])
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("event_failed", intake=row.id, error=type(error).__name__)
            text = (
                f"🚨 {row.channel}: an event could not be routed ({type(error).__name__}). Nobody was paged:"
            )
            body = row.event.body if row.event is not None else None
            async with self._desk.database.write() as connection:
                await outbox.put(
                    connection, [operations.notice(text, row.key, quoted=body)], self._desk.now()
                )
                await self._desk.inbox.mark_routed(connection, [row.id])

    async def _take(self, waiting: Sequence[IntakeRow]) -> None:
        with in_hand.hold(*(text for row in waiting for text in _texts(row))):
            await self._take_in_hand(waiting)

    async def _take_in_hand(self, waiting: Sequence[IntakeRow]) -> None:
        now = self._desk.now()
        work = _Work()
        async with self._desk.database.read() as connection:
            for row in waiting:
                if row.event is not None:
                    await self._route(connection, work, row, row.event, now)
                else:
                    work.drafts.append(_shown(row))
        async with self._desk.database.write() as connection:
            await self._desk.keys.reclassify(connection, work.classes, now)
            await pages.open_pages(connection, work.openings)
            if any(opening.move and opening.move.skipped for opening in work.openings):
                await self._desk.situation.load_pages(connection, self._desk.rulebook().config)
            await outbox.put(connection, work.drafts, now)
            for page_id, intake in work.joining:
                await self._join(connection, page_id, intake, now)
            await self._desk.inbox.mark_routed(connection, [row.id for row in waiting])
            await ledger.append(connection, work.records, now)
        for page in (opening.page for opening in work.openings):
            log.info(
                "page_opened", page=page.id, rule=page.rule, role=page.role, priority=page.priority.value
            )

    async def _route(
        self, connection: AsyncConnection, work: _Work, row: IntakeRow, event: IntakeEvent, now: datetime
    ) -> None:
        book = self._desk.rulebook()
        earlier = []
        if book.counts_repeats and event.caller is not None:
            since = row.received_at - LONGEST_REPEAT
            earlier = await self._desk.inbox.earlier(connection, event.caller, since, row.received_at)
        # What came before a digest's hour is in that digest, though it be routed a moment after.
        routing = route(book.router, event, row.received_at, earlier)
        work.classes.append((row.key, routing.primary.retention))
        patient = self._desk.keys.lookup(CALLER, event.caller) if event.caller else None
        for decision in routing.all:
            key = bundle_key(decision, event)
            mac = self._desk.keys.lookup("bundle", key) if key is not None else None
            if mac is not None and (like := await self._like(connection, work, decision, mac, now)):
                work.joining.append((like, row.id))
                joined = Record(Action.JOINED, page=like, objects={"intake": row.id}, patient=patient)
                work.records.append(joined)
                continue
            opening = await self._open(row, decision, book.config, now)
            work.openings.append(replace(opening, bundle_mac=mac))
            work.drafts += _drafts(book.config, opening, row, event, now)
            work.records.append(_routed(opening, patient))

    async def _like(
        self, connection: AsyncConnection, work: _Work, decision: Decision, mac: bytes, now: datetime
    ) -> PageId | None:
        """The page that a like event joins."""
        for opening in work.openings:
            if opening.bundle_mac == mac:
                return opening.page.id
        found = (await pages.bundles(connection, [mac])).get(mac)
        return found[0].id if found and joins(decision, found[0].state, found[1], now) else None

    async def _open(self, row: IntakeRow, decision: Decision, config: Config, now: datetime) -> Opening:
        room = room_of(config, decision)
        held = Opening(pages.new_page(row.id, decision, None, room, now), decision, None)
        if decision.hold_until is not None:
            return held
        reachable = await self._desk.situation.reachable(config, places(config, held.page))
        move = ladder.open_page(config, decision, now, reachable, self._desk.situation.changes)
        return Opening(pages.new_page(row.id, decision, move, room, now), decision, move)

    async def _join(
        self, connection: AsyncConnection, page_id: PageId, intake: IntakeId, now: datetime
    ) -> None:
        await pages.join_bundle(connection, page_id, intake, now)
        page = await pages.get_page(connection, page_id)
        log.info("page_joined", page=page_id, count=page.count)
        if page.held_until is not None:
            return
        config = self._desk.rulebook().config
        await page_message.show(connection, self._desk.inbox, config, page_id, now)
        _, key = await self._desk.inbox.event_of(connection, intake)
        again = message(render_again(config, page))
        nudges = [
            Draft(
                destination, Purpose.NUDGE, again, key, urgency=page.priority.rank, page=page_id, target=main
            )
            for destination, main in dict(await outbox.messages_of(connection, page_id)).items()
            if is_known(config, destination)
        ]
        await outbox.put(connection, nudges, now)


def _drafts(
    config: Config, opening: Opening, row: IntakeRow, event: IntakeEvent, now: datetime
) -> list[Draft]:
    """What is said as a page opens; nothing while it is held back."""
    page, move = opening.page, opening.move
    if move is None:
        return []
    drafts = page_message.post(config, page, event, row.key, now)
    if move.role != page.role:
        elsewhere = destination_of(config, move.role, None)
        drafts += page_message.post(config, page, event, row.key, now, to=elsewhere)
    if move.skipped or not move.notify:
        text = render_move(config, page, move, now).plain.reveal()
        drafts.append(operations.notice(f"⚠️ {text}", row.key, page=page.id))
    return drafts


def _routed(opening: Opening, patient: bytes | None) -> Record:
    page = opening.page
    objects = {
        "intake": page.intake,
        "rule": page.rule,
        "config": page.config_hash,
        "role": page.role,
        "priority": page.priority.value,
        "ladder": page.ladder,
        "retention": page.retention,
        "notified": list(page.notified),
    }
    outcome = "notified" if opening.move else "held_back"
    return Record(Action.ROUTED, page=page.id, objects=objects, outcome=outcome, patient=patient)


def _texts(row: IntakeRow) -> tuple[str, ...]:
    if row.event is not None:
        return row.event.texts()
    return (row.raw.reveal().decode("utf-8", "replace"),) if row.raw is not None else ()


def _shown(row: IntakeRow) -> Draft:
    assert row.raw is not None  # noqa: S101 - a row without an event has its raw request
    raw = row.raw.reveal()
    shown = raw.decode("utf-8", "replace")[:QUOTED_CHARACTERS]
    text = f"{row.channel}: a request could not be read ({row.reason}). It is kept; {len(raw)} bytes:"
    log.warning("request_unreadable", channel=row.channel, intake=row.id, reason=row.reason)
    return operations.notice(text, row.key, quoted=Phi(shown))
