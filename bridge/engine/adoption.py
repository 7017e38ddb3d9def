"""At start: pages that are open, and need what the configuration has no more, go where somebody answers for them.

A reload refuses such files; whoever starts the bridge on them has nobody to refuse.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config import Config
from bridge.engine import operations, page_message
from bridge.engine.desk import Desk
from bridge.engine.messages import message
from bridge.engine.situation import destination_of, room_of
from bridge.ledger import Action, Record
from bridge.model.decision import Decision, Move
from bridge.model.doors import Destination
from bridge.model.errors import StoreUnavailableError
from bridge.model.page import Page
from bridge.policy import ladder
from bridge.policy.rendering import render_move
from bridge.policy.routing import role_ladder
from bridge.store import ledger, outbox, pages
from bridge.store.outbox import Draft, Purpose
from bridge.vault import KeyDestroyedError

log = structlog.get_logger(__name__)


async def adopt(desk: Desk, now: datetime) -> None:
    """Give every stranded page a role, ladder and template that there are; each is one transaction."""
    config = desk.rulebook().config
    async with desk.database.read() as connection:
        stranded = [page for page in await pages.unanswered(connection) if missing(config, page)]
    for page in stranded:
        try:
            await _adopt(desk, page, now)
        except StoreUnavailableError:
            raise
        except Exception as error:
            # The bridge must start for the others; this one's ladder tells operations of it, again and again.
            log.exception("page_not_adopted", page=page.id, error=type(error).__name__)
        else:
            log.warning("page_adopted", page=page.id, missing=missing(config, page))


def missing(config: Config, page: Page) -> list[str]:
    """What a page needs and the configuration does not have."""
    needed = (
        ("role", page.role, config.roster.roles),
        ("ladder", page.ladder, config.routing.ladders),
        ("template", page.template, config.routing.templates),
    )
    return [f'{kind} "{name}"' for kind, name, known in needed if name not in known]


async def _adopt(desk: Desk, page: Page, now: datetime) -> None:
    config = desk.rulebook().config
    decision = _decision(config, page)
    rings = page.state.waiting and page.held_until is None
    move = ladder.open_page(config, decision, now, changes=desk.situation.changes) if rings else None
    async with desk.database.write() as connection:
        await _hand_on(desk, connection, page, decision, move, now)


async def _hand_on(  # noqa: PLR0917 - the first two are the same for all
    desk: Desk,
    connection: AsyncConnection,
    page: Page,
    decision: Decision,
    move: Move | None,
    now: datetime,
) -> None:
    config = desk.rulebook().config
    room = page.room if decision.role == page.role else room_of(config, decision)
    await pages.adopt_page(connection, page, decision, move, room)
    if page.role not in config.roster.roles:
        await outbox.withdraw(connection, page.id, Destination(page.role))
    objects = {
        "from": page.role,
        "role": decision.role,
        "ladder": decision.ladder,
        "template": decision.template,
        "notified": list(move.notify) if move else [],
    }
    record = Record(Action.FORWARDED, page=page.id, objects=objects, outcome="configuration_changed")
    await ledger.append(connection, [record], now)
    name = config.roster.roles[decision.role].name
    said = (
        f"🚨 The configuration has no {', '.join(missing(config, page))} any more, which an open page needs"
    )
    try:
        if page.held_until is None:
            await _show(desk, connection, page, move, now)
        told = f"{said}: it is with {name} now. Page {page.id}"
    except KeyDestroyedError:
        await pages.stop_timer(connection, page.id)
        told = f"{said}, and its content is destroyed. Page {page.id}"
    await operations.tell(connection, desk.keys, told, now, page=page.id)


async def _show(
    desk: Desk, connection: AsyncConnection, before: Page, move: Move | None, now: datetime
) -> None:
    """Post the page to its room if it does not stand there, and ring whoever has it now."""
    config = desk.rulebook().config
    page = await pages.get_page(connection, before.id)
    event, key = await desk.inbox.event_of(connection, page.latest or page.intake)
    destination = destination_of(config, move.role if move else page.role, page.room)
    main = dict(await outbox.messages_of(connection, page.id)).get(destination)
    if main is None:
        drafts = page_message.post(config, page, event, key, now, to=destination)
        # Taps to accept it are no use under a page that is accepted.
        await outbox.put(connection, drafts if page.state.waiting else drafts[:1], now)
    elif move is not None:
        nudge = message(render_move(config, page, move, now))
        urgency = page.priority.rank
        draft = Draft(destination, Purpose.NUDGE, nudge, key, urgency=urgency, page=page.id, target=main)
        await outbox.put(connection, [draft], now)
    note = f"the configuration has no {', '.join(missing(config, before))} any more"
    await page_message.show(connection, desk.inbox, config, page.id, now, note=note)


def _decision(config: Config, page: Page) -> Decision:
    """What the page would be decided to be if only what is missing were decided anew."""
    routing = config.routing
    role = page.role if page.role in config.roster.roles else routing.fallback.role
    keeps = role == page.role and page.ladder in routing.ladders
    template = page.template if page.template in routing.templates else None
    return Decision(
        rule=page.rule,
        role=role,
        priority=page.priority,
        ladder=page.ladder if keeps else role_ladder(config, role, page.priority),
        template=template or routing.fallback.template or routing.defaults.template,
        retention=page.retention,
        why=(),
        config_hash=config.hash,
    )
