"""A source is asked what has happened, and what the inbox lacks is taken."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import update

from bridge.engine.pulse import Pulse
from bridge.engine.reconcile import EVERY, LONGEST, OVERLAP, SETTLE, Meters, Reconciliation
from bridge.model.attachment import Attachment
from bridge.model.doors import OPERATIONS, Envelope
from bridge.model.errors import SourceError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, EventId, RoomId
from bridge.model.phi import Phi
from bridge.store import attachments, outbox
from bridge.store.database import Database
from bridge.store.inbox import IntakeRow, IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.tables import intake
from bridge.vault import Vault
from tests.desk import desk

SMS = ChannelId("clinic-sms")
START = datetime(2026, 11, 24, 20, 4, 20, tzinfo=UTC)


def text(number: int) -> IntakeEvent:
    return IntakeEvent(SMS, Phi(f"SM{number}"), EventKind.TEXT, Phi(f"text {number}"))


@dataclass
class Source:
    """What a source knows, and whether it can be asked."""

    events: list[IntakeEvent] = field(default_factory=list)
    trouble: str | None = None
    crash: bool = False
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    async def recount(self, since: datetime, until: datetime) -> Sequence[IntakeEvent]:
        self.asked.append((since, until))
        if self.trouble:
            raise SourceError(self.trouble)
        if self.crash:
            raise TypeError("what a patient wrote")
        return self.events


@dataclass
class Bench:
    """A reconciliation on a real database, with the clock in the test's hand."""

    database: Database
    keys: KeyRing
    source: Source = field(default_factory=Source)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    at: datetime = START
    inbox: IntakeStore = field(init=False)
    pulse: Pulse = field(init=False)
    meters: Meters = field(init=False)
    loop: Reconciliation = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = IntakeStore(self.database, self.keys, self.now, lambda: None)
        self.pulse = Pulse(self.now, self.registry)
        self.meters = Meters.of(self.registry)
        self.restart()

    def now(self) -> datetime:
        return self.at

    def restart(self) -> None:
        place = desk(self.database, self.keys, self.now, pulse=self.pulse)
        self.loop = Reconciliation(place, SMS, self.source.recount, self.meters)

    async def look(self, later: timedelta = EVERY) -> None:
        self.at += later
        await self.loop.step()

    async def told(self) -> list[tuple[str, bool]]:
        """What the operations room was told since the last time; whether it was an edit."""
        said: list[tuple[str, bool]] = []
        while True:
            async with self.database.read() as connection:
                entry = await outbox.head(connection, self.keys, OPERATIONS)
            if entry is None:
                return said
            assert entry.content is not None
            content = json.loads(entry.content.reveal())
            shown = content.get("m.new_content", content)["body"]
            said.append((shown, entry.related))
            async with self.database.write() as connection:
                envelope = Envelope(RoomId("!r"), "m.room.encrypted", "{}", None)
                await outbox.keep_envelopes(connection, [(entry.id, envelope)])
                sent = (entry.id, RoomId("!r"), EventId(f"$event{entry.id}"))
                await outbox.mark_sent(connection, [sent], self.at)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    await keys.claim(database, START)
    yield Bench(database, keys)
    await database.close()


async def waiting(bench: Bench) -> list[str]:
    async with bench.database.read() as connection:
        rows = await bench.inbox.waiting(connection, 100)
    return [row.event.body.reveal() for row in rows if isinstance(row, IntakeRow) and row.event]


async def test_what_never_came_in_is_taken_once_and_told(bench: Bench) -> None:
    await bench.inbox.accept(text(1))
    bench.source.events = [text(1), text(2)]
    await bench.look()
    await bench.look()
    assert await waiting(bench) == ["text 1", "text 2"]
    [(alarm, _), (line, edit)] = await bench.told()
    assert alarm.startswith("⚠️ clinic-sms: 1 events had not come in")
    assert (line, edit) == ("clinic-sms: reconciled through 21:08:20, 1 missing", False)


async def test_what_belongs_to_it_is_kept_with_it(bench: Bench) -> None:
    picture = Attachment("image/png", place=Phi("https://api.twilio.com/ME1"))
    bench.source.events = [replace(text(1), attachments=(picture,))]
    await bench.look()
    async with bench.database.read() as connection:
        assert await attachments.depth(connection) == 1


async def test_nothing_missing_is_one_line_a_day_that_is_edited_hourly(bench: Bench) -> None:
    for _ in range(25):
        await bench.look()
    said = await bench.told()
    assert [line for line, _ in said] == [
        f"clinic-sms: reconciled through {clock}, 0 missing" for clock in ("21:08:20", "22:08:20", "23:08:20")
    ]
    assert [edit for _, edit in said] == [False, True, True]
    await bench.look(timedelta(hours=12))
    assert [edit for _, edit in await bench.told()] == [False]


async def test_an_event_whose_content_was_destroyed_is_not_missing(bench: Bench) -> None:
    await bench.inbox.accept(text(1))
    async with bench.database.write() as connection:
        await connection.execute(update(intake).values(state="destroyed", sealed=b""))
    bench.source.events = [text(1)]
    await bench.look()
    assert await waiting(bench) == []


async def test_it_begins_when_it_is_first_looked_at_and_leaves_what_may_be_on_its_way(bench: Bench) -> None:
    await bench.look(timedelta(0))
    await bench.look()
    begun = START - SETTLE
    assert bench.source.asked == [(begun, begun), (begun, begun + EVERY)]
    await bench.look(timedelta(hours=1))
    await bench.look()
    assert bench.source.asked[-1] == (bench.at - EVERY - SETTLE - OVERLAP, bench.at - SETTLE)


async def test_after_a_restart_it_goes_on_where_it_was_however_long_that_took(bench: Bench) -> None:
    await bench.look(timedelta(0))
    through = START - SETTLE
    bench.at += timedelta(days=2)
    bench.restart()
    for _ in range(3):
        await bench.loop.step()
    assert [until for _, until in bench.source.asked[1:]] == [through + LONGEST, through + 2 * LONGEST]
    assert bench.source.asked[2][0] == through + LONGEST - OVERLAP


async def test_a_source_whose_clock_is_slow_is_asked_for_what_it_dates_back(bench: Bench) -> None:
    await bench.look(timedelta(0))
    await bench.look(timedelta(hours=2))
    await bench.look()
    since, _ = bench.source.asked[-1]
    assert since <= bench.at - timedelta(hours=1)


async def test_after_the_clock_was_set_back_a_day_is_asked_for_anew_and_nothing_is_left_out(
    bench: Bench,
) -> None:
    await bench.look(timedelta(0))
    await bench.look(timedelta(days=1))
    right = bench.at
    for _ in range(4):
        await bench.look(timedelta(days=1))  # the clock is ahead, and so is what is held to be known
    bench.at = right
    await bench.look(timedelta(minutes=1))
    assert bench.source.asked[-1] == (
        max(START - SETTLE, bench.at - SETTLE - LONGEST - OVERLAP),
        bench.at - SETTLE,
    )
    await bench.look()
    assert bench.source.asked[-1] == (bench.at - EVERY - SETTLE - OVERLAP, bench.at - SETTLE)


async def test_a_first_look_under_a_clock_that_was_ahead_is_no_gap(bench: Bench) -> None:
    bench.at += timedelta(days=7)
    await bench.look(timedelta(0))
    bench.at = START
    bench.restart()
    await bench.look()
    await bench.look()
    assert bench.source.asked[-1] == (START + EVERY - SETTLE, bench.at - SETTLE)


async def test_a_source_that_can_not_be_asked_is_told_once_and_asked_ever_less_often(bench: Bench) -> None:
    await bench.look(timedelta(0))
    await bench.told()
    bench.source.trouble = "Twilio can't be reached"
    for _ in range(40):
        await bench.look(timedelta(seconds=30))
    asked = len(bench.source.asked)
    assert 4 <= asked <= 10
    assert await bench.told() == [
        ("⚠️ clinic-sms can't be reconciled: Twilio can't be reached. It is tried again.", False)
    ]
    assert bench.pulse.parts()["reconcile clinic-sms"] == "Twilio can't be reached"
    bench.source.trouble, bench.source.events = None, [text(1)]
    await bench.look(timedelta(minutes=10))
    assert await waiting(bench) == ["text 1"]
    assert [edit for _, edit in await bench.told()] == [False, True]
    since, until = bench.source.asked[-1]
    assert since == START - SETTLE
    assert until == bench.at - SETTLE


async def test_an_answer_that_the_bridge_fails_at_is_told_too_and_what_is_lost_waits(bench: Bench) -> None:
    await bench.look(timedelta(0))
    await bench.told()
    bench.source.crash = True
    await bench.look(timedelta(minutes=10))
    [(alarm, _)] = await bench.told()
    assert alarm.startswith("⚠️ clinic-sms can't be reconciled: a fault of the bridge, TypeError")
    bench.source.crash, bench.source.events = False, [text(1)]
    await bench.look(timedelta(minutes=10))
    assert await waiting(bench) == ["text 1"]


async def test_metrics_say_how_far_it_is(bench: Bench) -> None:
    bench.source.events = [text(1)]
    await bench.look()
    metrics = generate_latest(bench.registry).decode()
    [through] = re.findall(r'nightbell_reconciled_through_seconds{channel="clinic-sms"} (\S+)', metrics)
    assert float(through) == (bench.at - SETTLE).timestamp()
    assert 'nightbell_reconciled_missing_total{channel="clinic-sms"} 1.0' in metrics
