"""The bridge as one program: the doors open first, then the loops run until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from bridge.channels import open_channel, unanswerable
from bridge.channels.accepting import Accepting, raise_open_files
from bridge.channels.channel import Surroundings
from bridge.channels.http import build_application, serve
from bridge.channels.meters import Meters
from bridge.config import Config, ConfigError
from bridge.engine.calendars import complete
from bridge.engine.capture import Captures
from bridge.engine.desk import Bells, Desk
from bridge.engine.pulse import Pulse
from bridge.engine.refusals import Refusals
from bridge.engine.replies import Replies
from bridge.engine.reports import received, waiting
from bridge.engine.rulebook import Clock, LiveRulebook, Rulebook
from bridge.engine.situation import Situation
from bridge.gate import Gate, health_of
from bridge.house import House, open_house, utc_now
from bridge.loops import run_loops
from bridge.model import in_hand
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.report import Standing
from bridge.store import channel_notes, nodes, reports
from bridge.store.inbox import IntakeStore
from bridge.store.nodes import Node, this_node

log = structlog.get_logger(__name__)


async def run(config: Config, *, now: Clock = utc_now) -> None:
    """Run the bridge until it is cancelled or sent SIGTERM. Raises OSError if `listen` can't be listened on."""
    if problems := list(unanswerable(config)):
        raise ConfigError(problems)
    raise_open_files()
    node = this_node()
    async with open_house(config) as house, _enlisted(house, node, now), AsyncExitStack() as doors:
        bells, registry = Bells(), CollectorRegistry()
        pulse = Pulse(now, registry)
        captures = Captures(house.database, house.keys, now, bells.deliver.ring)
        accepting = Accepting(registry)
        accepting.watch(asyncio.get_running_loop())
        gate = Gate(house, pulse, now, bells.deliver.ring, captures, accepting)
        refusals = Refusals(house.database, house.keys, now=now, wake=bells.deliver.ring)
        meters = Meters.of(registry, refusals.count)
        inbox = IntakeStore(house.database, house.keys, now, bells.dispatch.ring)
        nightbell = config.nightbell
        in_hand.learn(await asyncio.to_thread(own_words))
        live = LiveRulebook(Rulebook.of(await complete(config, house.database)))
        desk = Desk(house.database, house.keys, inbox, live, Situation(now), pulse, bells, now)
        replies = Replies(desk)
        around = Surroundings(
            inbox,
            now,
            nightbell.listen.public_url.rstrip("/"),
            standing=partial(_standing, house),
            drop=partial(_drop, house, now),
            waiting=partial(waiting, database=house.database, keys=house.keys, now=now),
            received=partial(received, database=house.database, now=now),
            reply=replies,
            text_back=replies.owe,
            tell=gate.tell,
            count=meters.count,
            tap=captures.note,
            recall=partial(channel_notes.recall, house.database),
            remember=partial(channel_notes.remember, house.database),
        )
        channels = [open_channel(channel, section, around) for channel, section in config.channels.items()]
        application = build_application(
            channels,
            health=partial(health_of, house, pulse, gate),
            meters=meters,
            tap=captures.note,
            proxies=nightbell.listen.proxies,
            per_minute=nightbell.listen.per_minute,
        )
        port = await doors.enter_async_context(
            serve(application, nightbell.listen.host, nightbell.listen.port)
        )
        log.info("intake_open", port=port, channels=[channel.id for channel in channels])
        loops = run_loops(
            house, desk, gate, node=node, channels=channels, refusals=refusals, registry=registry
        )
        await _until_stopped(loops)


@asynccontextmanager
async def _enlisted(house: House, node: Node, now: Clock) -> AsyncIterator[None]:
    """Be known as a bridge that runs, with its operator keys, until it ends."""
    await house.keys.enlist(house.database, node, house.keys.vault, now())
    try:
        yield
    finally:
        with suppress(StoreUnavailableError):
            async with house.database.write() as connection:
                await nodes.leave(connection, node.id)


def own_words() -> str:
    """Nightbell's code. What stands there tells nothing of an event."""
    return "\n".join(file.read_text() for file in sorted(Path(__file__).parent.rglob("*.py")))


async def _standing(house: House, channel: ChannelId, intake: IntakeId) -> Standing | None:
    async with house.database.read() as connection:
        return await reports.standing_of(connection, house.keys, channel, intake)


async def _drop(house: House, now: Clock, channel: ChannelId, intake: IntakeId) -> None:
    async with house.database.write() as connection:
        await reports.drop(connection, channel, intake, now())


async def _until_stopped(work: Coroutine[None, None, None]) -> None:
    """Run `work` until it ends or the process is asked to stop."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
        log.info("stopped")
