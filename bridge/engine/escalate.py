"""Timers: a page that nobody has accepted climbs its ladder, to the second, and after an outage at once.

A page that quiet hours have held back rings when they end; several at once are told of in one digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine import operations, page_message
from bridge.engine.desk import Desk
from bridge.engine.messages import message
from bridge.engine.situation import destination_of, places
from bridge.ledger import Action, Record
from bridge.model.decision import Decision, Move, StepKind
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import PageId, PersonId, RoleId
from bridge.model.page import Page
from bridge.policy import ladder
from bridge.policy.ladder import Reachable
from bridge.policy.rendering import render_move
from bridge.policy.schedule import Change
from bridge.policy.summaries import render_digest
from bridge.store import ledger, outbox, pages
from bridge.store.outbox import Draft, Purpose
from bridge.store.pages import DueTimer
from bridge.vault import KeyDestroyedError

BATCH = 50
TRY_AGAIN = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class Escalation:
    """Fires each timer once; a step and the messages of it are one transaction."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def step(self) -> float | None:
        """Climb what is due. Returns the seconds until the next timer."""
        async with self._desk.database.read() as connection:
            due = await pages.due_timers(connection, self._desk.now(), BATCH)
        released = [timer for timer in due if timer.step == 0]
        if released:
            await self._apart(released, partial(self._release, released))
        for timer in due:
            if timer.step > 0:
                await self._apart([timer], partial(self._climb, timer))
        if due:
            self._desk.bells.deliver.ring()
        async with self._desk.database.read() as connection:
            following = await pages.next_due(connection)
        return None if following is None else max(0.0, (following - self._desk.now()).total_seconds())

    async def _apart(self, timers: list[DueTimer], work: Callable[[], Awaitable[None]]) -> None:
        """Do the work for these pages; one that fails must not keep the others from climbing."""
        try:
            await work()
        except (StoreUnavailableError, asyncio.CancelledError):
            raise
        except Exception as error:
            if len(timers) > 1:
                for timer in timers:
                    await self._apart([timer], partial(self._release, [timer]))
                return
            log.exception("page_stuck", page=timers[0].page, error=type(error).__name__)
            await self._give_up(timers[0].page, for_good=isinstance(error, KeyDestroyedError))

    async def _give_up(self, page: PageId, *, for_good: bool) -> None:
        """Try again in a while, or never where the content is gone; operations are told either way."""
        said = "its content is destroyed" if for_good else "it is tried again in a minute"
        text = f"🚨 A page could not climb its ladder: {said}. Page {page}"
        async with self._desk.database.write() as connection:
            if for_good:
                await pages.stop_timer(connection, page)
            else:
                await pages.postpone_timer(connection, page, self._desk.now() + TRY_AGAIN)
            await operations.tell(connection, self._desk.keys, text, self._desk.now(), page=page)

    async def _climb(self, timer: DueTimer) -> None:
        config, now = self._desk.rulebook().config, self._desk.now()
        async with self._desk.database.read() as connection:
            page = await pages.get_page(connection, timer.page)
        reachable = await self._desk.situation.reachable(config, places(config, page), page.declined)
        async with self._desk.database.write() as connection:
            page = await pages.get_page(connection, timer.page, hold=True)
            if not page.state.waiting:
                await pages.stop_timer(connection, page.id)
                return
            changes = self._desk.situation.changes
            move = _climbed(config, page, reachable, changes, now=now, due=timer.due_at)
            await pages.record_move(connection, page, move)
            await self._desk.situation.load_pages(connection, config)
            text = render_move(config, page, move, now)
            event, key = await self._desk.inbox.event_of(connection, page.latest or page.intake)
            drafts: list[Draft] = []
            if move.kind is StepKind.OPERATIONS or not move.notify or move.skipped:
                drafts.append(operations.notice(text.plain.reveal(), key, page=page.id))
            if move.notify:
                at_home = move.role == page.role
                destination = destination_of(config, move.role, page.room if at_home else None)
                main = dict(await outbox.messages_of(connection, page.id)).get(destination)
                if main is None:
                    # Another role's room has not seen the page: it gets the whole of it, to edit like the first.
                    drafts += page_message.post(config, page, event, key, now, to=destination)
                    main = next(draft.transaction for draft in drafts if draft.purpose is Purpose.PAGE)
                urgency = page.priority.rank
                nudge = message(text)
                drafts.append(
                    Draft(destination, Purpose.NUDGE, nudge, key, urgency=urgency, page=page.id, target=main)
                )
            await outbox.put(connection, drafts, now)
            await page_message.show(
                connection, self._desk.inbox, config, page.id, now, note=text.plain.reveal()
            )
            await ledger.append(connection, [_climbed_record(page, move)], now)
        log.info(
            "page_climbed",
            page=page.id,
            step=move.step,
            kind=move.kind.value if move.kind else "end",
            notified=list(move.notify),
            skipped=list(move.skipped),
            late_seconds=round(move.late_by.total_seconds(), 3),
        )

    async def _release(self, timers: list[DueTimer]) -> None:
        """End the waiting of pages together, so that a digest can name them all."""
        config, now = self._desk.rulebook().config, self._desk.now()
        async with self._desk.database.read() as connection:
            held = [await pages.get_page(connection, timer.page) for timer in timers]
        moves: dict[str, Move] = {}
        for page in held:
            reachable = await self._desk.situation.reachable(config, places(config, page))
            decision = _decision_of(page)
            moves[page.id] = ladder.open_page(config, decision, now, reachable, self._desk.situation.changes)
        async with self._desk.database.write() as connection:
            current = [await pages.get_page(connection, page.id, hold=True) for page in held]
            waiting = [page for page in current if page.state.waiting]
            await self._digest(connection, config, waiting, now)
            for page in waiting:
                await pages.release_page(connection, page.id, moves[page.id])
                released = await pages.get_page(connection, page.id)
                event, key = await self._desk.inbox.event_of(connection, page.latest or page.intake)
                await outbox.put(connection, page_message.post(config, released, event, key, now), now)
                log.info("page_released", page=page.id)
            await self._desk.situation.load_pages(connection, config)
            rung = [_climbed_record(page, moves[page.id], outcome="quiet_time_over") for page in waiting]
            await ledger.append(connection, rung, now)

    async def _digest(
        self, connection: AsyncConnection, config: Config, held: list[Page], now: datetime
    ) -> None:
        rooms = {destination_of(config, page.role, page.room) for page in held}
        for destination in rooms:
            here = [page for page in held if destination_of(config, page.role, page.room) == destination]
            if len(here) == 1:
                continue
            opened = [
                (page, await self._desk.inbox.event_of(connection, page.latest or page.intake))
                for page in here
            ]
            text = render_digest(config, [(page, event) for page, (event, _) in opened], now)
            key = await self._desk.keys.new_data_key(connection, here[0].retention, now)
            await outbox.put(connection, [Draft(destination, Purpose.NOTICE, message(text), key)], now)


def _climbed(
    config: Config,
    page: Page,
    reachable: Reachable,
    changes: tuple[Change, ...],
    *,
    now: datetime,
    due: datetime,
) -> Move:
    """The page's next move. A step that was passed over because somebody declined is no news to anybody."""

    def willing(_role: RoleId, person: PersonId) -> bool:
        return person not in page.declined

    if page.step == 0 and not page.notified:
        # Its ladder had ended before anybody could read it.
        return ladder.open_page(config, _decision_of(page), now, reachable, changes)
    move = ladder.climb(config, page, now, reachable, changes, due=due)
    expected = ladder.climb(config, page, now, willing, changes).skipped
    return replace(move, skipped=tuple(step for step in move.skipped if step not in expected))


def _climbed_record(page: Page, move: Move, outcome: str = "done") -> Record:
    kind = move.kind.value if move.kind else "begin" if move.notify else "end"
    return Record(
        Action.CLIMBED,
        page=page.id,
        objects={"step": move.step, "kind": kind, "role": move.role, "notified": list(move.notify)},
        outcome=outcome,
    )


def _decision_of(page: Page) -> Decision:
    """The decision that a held page was made by."""
    return Decision(
        rule=page.rule,
        role=page.role,
        priority=page.priority,
        ladder=page.ladder,
        template=page.template,
        retention=page.retention,
        why=(),
        config_hash=page.config_hash,
    )
