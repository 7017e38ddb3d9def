"""The loops: each is built on the open house, rung by those before it, and run beside the others."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from bridge import __version__, audio
from bridge.anchors import open_anchors
from bridge.channels import unanswerable
from bridge.channels.channel import Channel
from bridge.channels.doors import keep_open
from bridge.config import Config
from bridge.engine import operations, reconcile
from bridge.engine.adoption import Adoption, adopt
from bridge.engine.answers import Answers
from bridge.engine.arrivals import Arrivals
from bridge.engine.calendars import Calendars
from bridge.engine.clocks import Clocks
from bridge.engine.coverage import Coverage
from bridge.engine.deliver import Delivery
from bridge.engine.dispatch import Dispatch
from bridge.engine.escalate import Escalation
from bridge.engine.loop import Wake, run_loop
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
from bridge.engine.rulebook import Clock, CurrentRulebook, LiveRulebook
from bridge.engine.shifts import Shifts
from bridge.engine.situation import Situation, is_known
from bridge.engine.texting import Texting
from bridge.engine.watch import Watch
from bridge.gate import METRICS, Gate, show_metrics
from bridge.house import ROOMS_AT_ONCE, House, open_vault, open_witness, start_bot
from bridge.ledger import Action, Record
from bridge.matrix.courier import MatrixCourier
from bridge.matrix.device import require_identity
from bridge.matrix.device_inbox import DeviceInbox
from bridge.matrix.encryption import Encryption
from bridge.matrix.erasing import MatrixEraser
from bridge.matrix.repository import MatrixRepository
from bridge.matrix.rooms import RoomPlan, Rooms
from bridge.matrix.sync import Sync
from bridge.model.doors import OPERATIONS, Destination
from bridge.model.errors import HomeserverError, StoreUnavailableError
from bridge.model.ids import PersonId, UserId
from bridge.policy.schedule import room_members
from bridge.store import leavers, ledger
from bridge.store.inbox import IntakeStore
from bridge.store.nodes import Node
from bridge.store.outbox import Entry, Purpose
from bridge.transcription import transcriber

START_PAUSE_SECONDS = 2.0
# What we send comes back in the next answer. In a burst, an answer for each message of ours would cost the homeserver
# a third of its work; a tap that comes in this time is seen this much later.
ECHO_PAUSE_SECONDS = 0.2

log = structlog.get_logger(__name__)


def room_plan(live: CurrentRulebook, situation: Situation, now: Clock, destination: Destination) -> RoomPlan:
    """How the configuration in force wants a destination's room."""
    config = live().config
    rooms, encryption, roster = config.nightbell.rooms, config.nightbell.encryption, config.roster
    people: tuple[PersonId, ...] = ()
    members: frozenset[UserId] = frozenset()
    if not is_known(config, destination):
        message = f"the configuration has no {destination} any more"
        raise HomeserverError(message, retry=False)
    if destination.role is not None:
        name = roster.roles[destination.role].room.name
        on_duty = room_members(config, destination.role, now(), situation.changes)
        people = (*on_duty, *situation.called_in(destination.role))
    elif destination.room is not None:
        name = roster.rooms[destination.room].name
        people = roster.persons(roster.rooms[destination.room].members)
    else:
        name, members = rooms.operations.name, frozenset(rooms.operations.members)
    return RoomPlan(
        destination,
        name,
        (members or frozenset(roster.people[person].matrix for person in people)) - situation.leavers,
        federate=rooms.federate,
        rotate_after_ms=round(encryption.rotate_after.total_seconds() * 1000),
        rotate_after_messages=encryption.rotate_after_messages,
    )


@dataclass(frozen=True, slots=True)
class Bells:
    """One bell for each loop."""

    dispatch: Wake
    deliver: Wake
    escalate: Wake
    answers: Wake
    arrivals: Wake
    devices: Wake
    readiness: Wake
    receipts: Wake
    shifts: Wake
    reload: Wake
    retain: Wake
    media: Wake
    report: Wake
    texting: Wake

    def __init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, Wake())


async def run_loops(
    house: House,
    bells: Bells,
    pulse: Pulse,
    inbox: IntakeStore,
    live: LiveRulebook,
    *,
    node: Node,
    gate: Gate,
    watch: Watch,
    channels: Sequence[Channel],
    registry: CollectorRegistry,
    refusals: Refusals,
    now: Clock,
) -> None:
    database, keys = house.database, house.keys
    sources = {channel.id: channel.media for channel in channels if channel.media is not None}
    situation = await _situation(house, live, now)
    await _note_start(house, now())
    await adopt(Adoption(database, keys, inbox, live().config, situation), now())

    def decided() -> None:
        bells.deliver.ring()
        bells.escalate.ring()
        bells.media.ring()
        bells.report.ring()

    dispatch = Dispatch(database, keys, inbox, live, situation, now=now, wake=decided)
    escalation = Escalation(database, keys, inbox, live, situation, now=now, wake=bells.deliver.ring)
    async with asyncio.TaskGroup() as group:
        # Events come in, and pages are decided and climb, while the homeserver is away, too.
        _take_events(
            group,
            house,
            inbox,
            live,
            pulse,
            gate=gate,
            channels=channels,
            registry=registry,
            now=now,
            wake=bells.deliver.ring,
            bells=bells,
        )
        group.create_task(run_loop("dispatch", bells.dispatch, dispatch.step, pulse.beat))
        group.create_task(run_loop("escalate", bells.escalate, escalation.step, pulse.beat))
        _keep_ledger(group, house, refusals, pulse=pulse, now=now, wake=bells.deliver.ring)
        group.create_task(run_loop("watch", Wake(), watch.step, pulse.beat))
        clocks = Clocks(house.database, house.keys, registry, now=now, wake=bells.deliver.ring)
        group.create_task(run_loop("clock", Wake(), clocks.step, pulse.beat))
        reload = _keep_current(group, house, bells, live, node=node, pulse=pulse, now=now, wake=decided)
        await _when_there(pulse, partial(start_bot, house))
        await require_identity(house.machine)
        await _record_login(house, now())
        matrix = Matrix.of(house, partial(room_plan, live, situation, now), now)
        situation.courier = matrix.courier
        answers = Answers(
            database,
            keys,
            inbox,
            matrix.courier,
            rulebook=live,
            situation=situation,
            now=now,
            wake=partial(_ring, decided, bells.retain.ring),
            reload=reload,
        )
        readiness = Readiness(database, keys, matrix.courier, live, now=now, wake=bells.deliver.ring)
        hand_overs = Shifts(
            database, keys, live, situation, now=now, changed=bells.readiness.ring, wake=bells.deliver.ring
        )
        delivery = Delivery(
            database,
            keys,
            matrix.courier,
            now=now,
            rooms_at_once=ROOMS_AT_ONCE,
            report=partial(_report, house=house, inbox=inbox, now=now, decided=decided),
            wake=bells.deliver.ring,
        )
        readers_changed = partial(_readers_changed, delivery, bells)
        devices = DeviceInbox(database, keys, matrix.encryption, now=now, keys_came=readers_changed)
        await _when_there(pulse, partial(_catch_up, matrix, devices))
        group.create_task(
            run_loop("sync", Wake(), partial(_read, matrix, bells, readers_changed), pulse.beat)
        )
        group.create_task(run_loop("devices", bells.devices, devices.step, pulse.beat))
        group.create_task(run_loop("answers", bells.answers, answers.step, pulse.beat))
        _follow_readers(group, house, bells, inbox, live, pulse=pulse, now=now)
        group.create_task(run_loop("readiness", bells.readiness, readiness.step, pulse.beat))
        retention = _retention(house, live, now)
        group.create_task(run_loop("retain", bells.retain, retention.step, pulse.beat))
        offboarding = Offboarding(database, situation, changed=bells.readiness.ring)
        group.create_task(run_loop("offboard", Wake(), offboarding.step, pulse.beat))
        group.create_task(run_loop("shifts", bells.shifts, hand_overs.step, pulse.beat))
        group.create_task(run_loop("deliver", bells.deliver, partial(delivery.step, group), pulse.beat))
        media = Media(
            database,
            keys,
            sources,
            MatrixRepository(house.homeserver),
            audio.playable,
            now=now,
            decided=bells.deliver.ring,
            wake=bells.media.ring,
            transcribe=transcriber(heard) if (heard := house.config.nightbell.transcription) else None,
        )
        group.create_task(run_loop("media", bells.media, partial(media.step, group), pulse.beat))
        log.info("bell_ready", bot=house.homeserver.bot, device=house.homeserver.device)


async def _note_start(house: House, now: datetime) -> None:
    started = Record(Action.STARTED, objects={"version": __version__, "config": house.config.hash})
    async with house.database.write() as connection:
        await ledger.append(connection, [started], now)


def _take_events(
    group: asyncio.TaskGroup,
    house: House,
    inbox: IntakeStore,
    live: LiveRulebook,
    pulse: Pulse,
    *,
    gate: Gate,
    channels: Sequence[Channel],
    registry: CollectorRegistry,
    now: Clock,
    wake: Callable[[], None],
    bells: Bells,
) -> None:
    """Start what listens or connects, and what asks the sources what was missed, and tells them what came of it."""
    place = house.config.nightbell.metrics
    if place.port is not None:
        show = partial(show_metrics, registry, place.host, place.port, gate)
        group.create_task(keep_open(show, partial(gate.tell, METRICS)))
    group.create_task(run_loop("doors", Wake(), gate.look, pulse.beat))
    group.create_task(run_loop("captures", Wake(), gate.captures.step, pulse.beat))
    meters = reconcile.Meters.of(registry)
    for channel in channels:
        if channel.serve is not None:
            group.create_task(keep_open(channel.serve, partial(gate.shut, channel.id)))
        if channel.recount is not None:
            loop = reconcile.Reconciliation(
                house.database, house.keys, inbox, channel.id, channel.recount, live, pulse, meters, now, wake
            )
            group.create_task(run_loop(f"reconcile {channel.id}", Wake(), loop.step, pulse.beat))
    reporters = {channel.id: channel.report for channel in channels if channel.report is not None}
    reporting = Reports(house.database, house.keys, reporters, now=now, tell=gate.tell)
    group.create_task(run_loop("report", bells.report, reporting.step, pulse.beat))
    texters = {channel.id: channel.text for channel in channels if channel.text is not None}
    texting = Texting(house.database, house.keys, texters, now=now, tell=gate.tell)
    group.create_task(run_loop("texting", bells.texting, texting.step, pulse.beat))


def _keep_ledger(
    group: asyncio.TaskGroup,
    house: House,
    refusals: Refusals,
    *,
    pulse: Pulse,
    now: Clock,
    wake: Callable[[], None],
) -> None:
    """Start what signs the ledger, what lets its oldest records go, and what records whom the doors refused."""
    kept = house.config.nightbell.ledger
    named = (kept.room,) if kept.room is not None else ()
    rooms = [RoomAnchor(house.database, house.keys, room, now, wake) for room in named]
    notary = Notary(
        house.database,
        house.keys,
        every=kept.sign_every,
        anchors=(*open_anchors(kept), *rooms),
        posts_to=Destination(room=kept.room) if kept.room is not None else None,
        now=now,
        beat=pulse.beat,
        wake=wake,
    )
    group.create_task(run_loop("notarise", Wake(), notary.step, pulse.beat))
    group.create_task(run_loop("refusals", Wake(), refusals.step, pulse.beat))
    pruning = Pruning(house.database, keep=kept.keep, now=now)
    group.create_task(run_loop("prune", Wake(), pruning.step, pulse.beat))


def _ring(*bells: Callable[[], None]) -> None:
    for bell in bells:
        bell()


def _retention(house: House, live: LiveRulebook, now: Clock) -> Retention:
    eraser = MatrixEraser(house.homeserver, house.machine)
    witness = open_witness(house.config)
    return Retention(house.database, house.keys, eraser, live, now=now, witness=witness)


async def _situation(house: House, live: LiveRulebook, now: Clock) -> Situation:
    situation = Situation(now)
    async with house.database.read() as connection:
        await situation.load(connection)
        await situation.load_pages(connection, live().config)
        situation.leavers = await leavers.all_of_them(connection)
    return situation


def _follow_readers(
    group: asyncio.TaskGroup,
    house: House,
    bells: Bells,
    inbox: IntakeStore,
    live: LiveRulebook,
    *,
    pulse: Pulse,
    now: Clock,
) -> None:
    """Start what looks at who has read a page, and who could not see it."""
    arrivals = Arrivals(house.database, inbox, live, now=now, wake=bells.deliver.ring)
    group.create_task(run_loop("arrivals", bells.arrivals, arrivals.step, pulse.beat))
    receipts = Receipts(house.database, inbox, live, now=now, wake=bells.deliver.ring)
    group.create_task(run_loop("receipts", bells.receipts, receipts.step, pulse.beat))


def _keep_current(
    group: asyncio.TaskGroup,
    house: House,
    bells: Bells,
    live: LiveRulebook,
    *,
    node: Node,
    pulse: Pulse,
    now: Clock,
    wake: Callable[[], None],
) -> Callable[[], None]:
    """Start what keeps the configuration in force current, and proves it. Returns what asks for a reload."""
    reload = Reload(
        house.database,
        house.keys,
        live,
        now=now,
        bell=bells.reload,
        wake=wake,
        take_keys=partial(_take_keys, house, node, now),
        refused=unanswerable,
    )
    calendars = Calendars(house.database, house.keys, live, now=now, wake=wake)
    coverage = Coverage(house.database, house.keys, live, pulse, now=now, wake=wake)
    group.create_task(run_loop("reload", bells.reload, reload.step, pulse.beat))
    group.create_task(run_loop("calendars", Wake(), calendars.step, pulse.beat))
    group.create_task(run_loop("coverage", Wake(), coverage.step, pulse.beat))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.ask)
    return reload.ask


async def _take_keys(house: House, node: Node, now: Clock, config: Config) -> str:
    """Know the operator keys that a configuration names now. Returns what to say of it. Raises VaultError."""
    before = house.keys.vault.ids
    vault = await asyncio.to_thread(open_vault, config)  # a command may give them
    await house.keys.enlist(house.database, node, vault, now())
    return f" Operator keys known: {', '.join(vault.ids)}." if vault.ids != before else ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The parts of the Matrix edge."""

    sync: Sync
    encryption: Encryption
    rooms: Rooms
    courier: MatrixCourier

    @classmethod
    def of(cls, house: House, plan_of: Callable[[Destination], RoomPlan], now: Clock) -> Matrix:
        """Build them on an open house."""
        trust = house.config.nightbell.encryption.trust
        encryption = Encryption(house.machine, house.database, trust, now)
        rooms = Rooms(house.homeserver, house.database, now, members_changed=encryption.forget_audiences)
        courier = MatrixCourier(house.homeserver, encryption, rooms, plan_of, now)
        return cls(Sync(house.homeserver, house.database, now), encryption, rooms, courier)


async def _read(matrix: Matrix, bells: Bells, readers_changed: Callable[[], Awaitable[None]]) -> float:
    """Read once from the homeserver, and wake whom it concerns."""
    brought = await matrix.sync.step()
    if brought.members:
        matrix.encryption.let_settle(brought.joined)
        matrix.rooms.forget_members()
        matrix.encryption.forget_audiences()
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


async def _report(
    entry: Entry,
    reason: str,
    lost: bool,  # noqa: FBT001 - see Delivery
    *,
    house: House,
    inbox: IntakeStore,
    now: Clock,
    decided: Callable[[], None],
) -> None:
    """Tell the operations room of a message that can't be delivered; of a page that is lost, what it said."""
    if entry.destination == OPERATIONS:
        log.error("operations_room_unreachable", reason=reason)
        return
    text = f"⚠️ {entry.destination}: a message could not be delivered ({reason})"
    async with house.database.write() as connection:
        if lost and entry.purpose is Purpose.PAGE and entry.page is not None:
            await operations.tell_of_page(connection, inbox, entry.page, f"{text}. Please pass it on:", now())
        else:
            await operations.tell(connection, house.keys, text, now(), page=entry.page)
    decided()


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


async def _catch_up(matrix: Matrix, devices: DeviceInbox) -> None:
    """Learn who has left and whose devices have changed meanwhile, before anything is encrypted to anybody."""
    await matrix.sync.step(wait=False)
    while await devices.step() == 0:
        pass
