"""The loops: each works at the desk, is rung by those before it, and runs beside the others."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry

from bridge import __version__, audio
from bridge.anchors import open_anchors
from bridge.channels import unanswerable
from bridge.channels.channel import Channel
from bridge.channels.doors import keep_open
from bridge.config import Config
from bridge.edge import Edge
from bridge.engine import operations, reconcile
from bridge.engine.adoption import adopt
from bridge.engine.answers import Answers
from bridge.engine.arrivals import Arrivals
from bridge.engine.calendars import Calendars
from bridge.engine.clocks import Clocks
from bridge.engine.coverage import Coverage
from bridge.engine.deliver import Delivery
from bridge.engine.desk import Bells, Desk
from bridge.engine.dispatch import Dispatch
from bridge.engine.escalate import Escalation
from bridge.engine.loop import Step, Wake, run_loop
from bridge.engine.media import Media
from bridge.engine.notarise import Notary
from bridge.engine.offboard import Offboarding
from bridge.engine.prune import Pruning
from bridge.engine.pulse import Pulse
from bridge.engine.readiness import Readiness
from bridge.engine.receipts import Receipts
from bridge.engine.refusals import Refusals
from bridge.engine.reload import Reload
from bridge.engine.reports import Reports
from bridge.engine.retain import Retention
from bridge.engine.room_anchor import RoomAnchor
from bridge.engine.shifts import Shifts
from bridge.engine.texting import Texting
from bridge.engine.watch import Watch
from bridge.gate import METRICS, TRANSCRIPTION, Gate, show_metrics
from bridge.house import ROOMS_AT_ONCE, House, open_vault, open_witness, start_bot
from bridge.ledger import Action, Record
from bridge.matrix.device import require_identity
from bridge.matrix.device_inbox import DeviceInbox
from bridge.matrix.erasing import MatrixEraser
from bridge.matrix.repository import MatrixRepository
from bridge.model.doors import OPERATIONS, Destination
from bridge.model.errors import HomeserverError, MediaError, StoreUnavailableError
from bridge.store import leavers, ledger
from bridge.store.nodes import Node
from bridge.store.outbox import Entry, Purpose
from bridge.transcription import prove, transcriber

START_PAUSE_SECONDS = 2.0
# What we send comes back in the next answer. In a burst, an answer for each message of ours would cost the homeserver
# a third of its work; a tap that comes in this time is seen this much later.
ECHO_PAUSE_SECONDS = 0.2

log = structlog.get_logger(__name__)


class Start(Protocol):
    """Starts a loop beside the others, to be woken by its bell, if it has one."""

    def __call__(self, name: str, step: Step, bell: Wake | None = None) -> None: ...


async def run_loops(
    house: House,
    desk: Desk,
    gate: Gate,
    *,
    node: Node,
    channels: Sequence[Channel],
    refusals: Refusals,
    registry: CollectorRegistry,
) -> None:
    """Run every loop until one is cancelled, or the homeserver says that it will never have us."""
    bells, pulse, now = desk.bells, desk.pulse, desk.now
    await _recollect(house, desk)
    await adopt(desk, now())
    async with asyncio.TaskGroup() as group:

        def start(name: str, step: Step, bell: Wake | None = None) -> None:
            group.create_task(run_loop(name, bell or Wake(), step, pulse.beat))

        # Events come in, and pages are decided and climb, while the homeserver is away, too.
        _take_events(group, start, desk, gate, channels=channels, registry=registry)
        start("dispatch", Dispatch(desk).step, bells.dispatch)
        start("escalate", Escalation(desk).step, bells.escalate)
        _keep_ledger(start, desk, refusals)
        start("watch", Watch(desk, node, registry).step)
        start("clock", Clocks(desk, registry).step)
        reload = _keep_current(start, desk, node)

        await _when_there(pulse, partial(start_bot, house))
        await require_identity(house.machine)
        await _record_login(house, now())
        edge = Edge.of(house, desk)
        desk.situation.courier = edge.courier
        delivery = Delivery(
            desk.database,
            desk.keys,
            edge.courier,
            now=now,
            rooms_at_once=ROOMS_AT_ONCE,
            report=partial(_report, desk),
            wake=bells.deliver.ring,
        )
        readers_changed = partial(_readers_changed, delivery, bells)
        devices = DeviceInbox(desk.database, desk.keys, edge.encryption, now=now, keys_came=readers_changed)
        await _when_there(pulse, partial(_catch_up, edge, devices))
        start("sync", partial(_read, edge, bells, readers_changed))
        start("devices", devices.step, bells.devices)
        start("answers", Answers(desk, edge.courier, reload).step, bells.answers)
        start("arrivals", Arrivals(desk).step, bells.arrivals)
        start("receipts", Receipts(desk).step, bells.receipts)
        start("readiness", Readiness(desk, edge.courier).step, bells.readiness)
        start("shifts", Shifts(desk).step, bells.shifts)
        start("retain", _retention(house, desk).step, bells.retain)
        start("offboard", Offboarding(desk.database, desk.situation, changed=bells.readiness.ring).step)
        start("deliver", partial(delivery.step, group), bells.deliver)
        start("media", partial(_media(house, desk, channels).step, group), bells.media)
        group.create_task(_prove_transcription(gate))
        log.info("bell_ready", bot=house.homeserver.bot, device=house.homeserver.device)


async def _recollect(house: House, desk: Desk) -> None:
    """Know again what commands have changed, and put the start on record."""
    async with desk.database.read() as connection:
        await desk.situation.load(connection)
        await desk.situation.load_pages(connection, desk.rulebook().config)
        desk.situation.leavers = await leavers.all_of_them(connection)
    started = Record(Action.STARTED, objects={"version": __version__, "config": house.config.hash})
    async with desk.database.write() as connection:
        await ledger.append(connection, [started], desk.now())


def _take_events(
    group: asyncio.TaskGroup,
    start: Start,
    desk: Desk,
    gate: Gate,
    *,
    channels: Sequence[Channel],
    registry: CollectorRegistry,
) -> None:
    """Start what listens or connects, and what asks the sources what was missed, and tells them what came of it."""
    place = gate.house.config.nightbell.metrics
    if place.port is not None:
        show = partial(show_metrics, registry, place.host, place.port, gate)
        group.create_task(keep_open(show, partial(gate.tell, METRICS)))
    start("doors", gate.look)
    start("captures", gate.captures.step)
    meters = reconcile.Meters.of(registry)
    for channel in channels:
        if channel.serve is not None:
            group.create_task(keep_open(channel.serve, partial(gate.shut, channel.id)))
        if channel.recount is not None:
            loop = reconcile.Reconciliation(desk, channel.id, channel.recount, meters)
            start(f"reconcile {channel.id}", loop.step)
    reporters = {channel.id: channel.report for channel in channels if channel.report is not None}
    reports = Reports(desk.database, desk.keys, reporters, now=desk.now, tell=gate.tell)
    start("report", reports.step, desk.bells.report)
    texters = {channel.id: channel.text for channel in channels if channel.text is not None}
    texting = Texting(desk.database, desk.keys, texters, now=desk.now, tell=gate.tell)
    start("texting", texting.step, desk.bells.texting)


def _keep_ledger(start: Start, desk: Desk, refusals: Refusals) -> None:
    """Start what signs the ledger, what lets its oldest records go, and what records whom the doors refused."""
    kept, wake = desk.rulebook().config.nightbell.ledger, desk.bells.deliver.ring
    named = (kept.room,) if kept.room is not None else ()
    rooms = [RoomAnchor(desk.database, desk.keys, room, desk.now, wake) for room in named]
    notary = Notary(
        desk.database,
        desk.keys,
        every=kept.sign_every,
        anchors=(*open_anchors(kept), *rooms),
        posts_to=Destination(room=kept.room) if kept.room is not None else None,
        now=desk.now,
        beat=desk.pulse.beat,
        wake=wake,
    )
    start("notarise", notary.step)
    start("refusals", refusals.step)
    start("prune", Pruning(desk.database, keep=kept.keep, now=desk.now).step)


def _keep_current(start: Start, desk: Desk, node: Node) -> Callable[[], None]:
    """Start what keeps the configuration in force current, and proves it. Returns what asks for a reload."""
    reload = Reload(desk, take_keys=partial(_take_keys, desk, node), refused=unanswerable)
    start("reload", reload.step, desk.bells.reload)
    start("calendars", Calendars(desk).step)
    start("coverage", Coverage(desk).step)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.ask)
    return reload.ask


async def _take_keys(desk: Desk, node: Node, config: Config) -> str:
    """Know the operator keys that a configuration names now. Returns what to say of it. Raises VaultError."""
    before = desk.keys.vault.ids
    vault = await asyncio.to_thread(open_vault, config)  # a command may give them
    await desk.keys.enlist(desk.database, node, vault, desk.now())
    return f" Operator keys known: {', '.join(vault.ids)}." if vault.ids != before else ""


def _retention(house: House, desk: Desk) -> Retention:
    eraser = MatrixEraser(house.homeserver, house.machine)
    witness = open_witness(house.config)
    return Retention(desk.database, desk.keys, eraser, desk.rulebook, now=desk.now, witness=witness)


def _media(house: House, desk: Desk, channels: Sequence[Channel]) -> Media:
    heard = house.config.nightbell.transcription
    return Media(
        desk.database,
        desk.keys,
        {channel.id: channel.media for channel in channels if channel.media is not None},
        MatrixRepository(house.homeserver),
        audio.playable,
        now=desk.now,
        decided=desk.bells.deliver.ring,
        wake=desk.bells.media.ring,
        transcribe=transcriber(heard) if heard else None,
    )


async def _prove_transcription(gate: Gate) -> None:
    """Say at once what would else show with the first recording. Nothing waits for it."""
    heard = gate.house.config.nightbell.transcription
    if heard is None:
        return
    try:
        await prove(heard)
    except MediaError as error:
        why = f"recordings are not transcribed ({error}); they come into their rooms"
        await gate.tell(TRANSCRIPTION, why)
    else:
        await gate.tell(TRANSCRIPTION, None)


async def _read(edge: Edge, bells: Bells, readers_changed: Callable[[], Awaitable[None]]) -> float:
    """Read once from the homeserver, and wake whom it concerns."""
    brought = await edge.sync.step()
    if brought.members:
        edge.encryption.let_settle(brought.joined)
        edge.rooms.forget_members()
        edge.encryption.forget_audiences()
        await readers_changed()
    if brought.joined:
        bells.arrivals.ring()
    if brought.keys:
        bells.devices.ring()
    if brought.words:
        bells.answers.ring()
    if brought.receipts:
        bells.receipts.ring()
    return 0 if brought.words or brought.keys else ECHO_PAUSE_SECONDS


async def _readers_changed(delivery: Delivery, bells: Bells) -> None:
    """Members or devices have changed: what nobody could read, or what could not be decrypted, may go on."""
    bells.answers.ring()
    bells.readiness.ring()
    await delivery.hasten()


async def _report(desk: Desk, entry: Entry, reason: str, lost: bool) -> None:  # noqa: FBT001 - see Delivery
    """Tell the operations room of a message that can't be delivered; of a page that is lost, what it said."""
    if entry.destination == OPERATIONS:
        log.error("operations_room_unreachable", reason=reason)
        return
    text, now = f"⚠️ {entry.destination}: a message could not be delivered ({reason})", desk.now()
    async with desk.database.write() as connection:
        if lost and entry.purpose is Purpose.PAGE and entry.page is not None:
            asked = f"{text}. Please pass it on:"
            await operations.tell_of_page(connection, desk.inbox, entry.page, asked, now)
        else:
            await operations.tell(connection, desk.keys, text, now, page=entry.page)
    desk.bells.decided()


async def _record_login(house: House, at: datetime) -> None:
    bot = Record(Action.LOGGED_IN, house.homeserver.bot, objects={"device": str(house.homeserver.device)})
    async with house.database.write() as connection:
        await ledger.append(connection, [bot], at)


async def _when_there(pulse: Pulse, work: Callable[[], Awaitable[None]]) -> None:
    """Do what needs the homeserver, as soon as it answers."""
    while True:
        try:
            await work()
        except (HomeserverError, StoreUnavailableError) as error:
            if isinstance(error, HomeserverError) and not error.retry:
                raise
            pulse.beat("start", error)
            log.warning("start_postponed", reason=str(error))
            await asyncio.sleep(START_PAUSE_SECONDS)
        else:
            pulse.beat("start", None)
            return


async def _catch_up(edge: Edge, devices: DeviceInbox) -> None:
    """Learn who has left and whose devices have changed meanwhile, before anything is encrypted to anybody."""
    await edge.sync.step(wait=False)
    while await devices.step() == 0:
        pass
