"""What can't be opened, routed or sent is told of, and keeps nothing else from its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from bridge.engine.deliver import Delivery
from bridge.engine.dispatch import Dispatch
from bridge.model.doors import OPERATIONS, Destination, Envelope, RawRoomEvent, RoomMessage
from bridge.model.errors import HomeserverError, PlaintextRefusedError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, EventId, OutboxId, RetentionClassId, RoleId, RoomId, UserId
from bridge.model.phi import Phi
from bridge.model.tap import Tap
from bridge.store import outbox, tables
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Entry, Purpose
from bridge.vault import Vault
from tests.desk import desk
from tests.store.conftest import NOW

HEART, BRAIN = Destination(RoleId("cardiology")), Destination(RoleId("neurology"))


@dataclass
class StubCourier:
    """A Matrix edge on which some texts meet an error."""

    errors: dict[bytes, Exception] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    async def room(self, destination: Destination) -> RoomId:
        return RoomId(f"!{destination}")

    async def encrypt(self, room: RoomId, event_type: str, content: Phi[bytes]) -> Envelope:
        if error := self.errors.get(content.reveal()):
            raise error
        return Envelope(room, event_type, content.reveal().decode(), "session")

    async def send(self, envelope: Envelope, transaction: str) -> EventId:
        self.sent.append(envelope.content)
        return EventId(f"${transaction}")

    async def prepare(self, room: RoomId) -> None: ...

    async def approve_identity(self, user: UserId, master_key: str) -> bool:
        raise NotImplementedError

    def seed(self, room: RoomId, about: EventId, tap: Tap) -> Envelope:
        raise NotImplementedError

    async def readers(self, destination: Destination) -> frozenset[UserId]:
        raise NotImplementedError

    async def trusted(self, users: frozenset[UserId]) -> frozenset[UserId]:
        raise NotImplementedError

    async def last_active(self, user: UserId) -> datetime | None:
        raise NotImplementedError

    async def read(self, raw: RawRoomEvent) -> RoomMessage | None:
        raise NotImplementedError


@dataclass
class Post:
    """The outbox and its delivery, under a clock of the test's."""

    database: Database
    keys: KeyRing
    courier: StubCourier = field(default_factory=StubCourier)
    now: datetime = NOW
    reported: list[tuple[Destination, str]] = field(default_factory=list)

    async def put(self, *texts: str, to: Destination = HEART) -> None:
        async with self.database.write() as connection:
            key = await self.keys.new_data_key(connection, RetentionClassId("standard"), NOW)
            drafts = [Draft(to, Purpose.NOTICE, Phi(text.encode()), key) for text in texts]
            await outbox.put(connection, drafts, NOW)

    async def _report(self, entry: Entry, reason: str, _lost: bool) -> None:  # noqa: FBT001
        self.reported.append((entry.destination, reason))

    async def deliver(self, *, rounds: int = 1) -> None:
        """Let so many rounds of delivery run to their end, ten seconds apart."""
        delivery = Delivery(
            self.database,
            self.keys,
            self.courier,
            now=lambda: self.now,
            rooms_at_once=4,
            report=self._report,
            wake=lambda: None,
        )
        for _ in range(rounds):
            async with asyncio.TaskGroup() as group:
                await delivery.step(group)
            self.now += timedelta(seconds=10)


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    await keys.claim(database, NOW)
    yield Post(database, keys)
    await database.close()


async def test_what_the_plaintext_budget_refuses_is_kept_and_told_of(post: Post) -> None:
    post.courier.errors = {b"strange": PlaintextRefusedError("not sent: a relation is readable")}
    await post.put("strange")
    await post.deliver(rounds=2)
    why = "a fault of the bridge, which the plaintext budget stopped: not sent: a relation is readable"
    assert post.reported == [(HEART, why)]
    post.courier.errors.clear()
    await post.deliver()
    assert post.courier.sent == ["strange"]


async def test_a_fault_in_one_room_keeps_no_other_room_waiting(post: Post) -> None:
    post.courier.errors = {b"strange": ZeroDivisionError()}
    await post.put("strange", "behind it")
    await post.put("fine", to=BRAIN)
    await post.deliver()
    assert post.courier.sent == ["fine"]


async def test_a_message_that_meets_a_fault_is_tried_again_and_told_of_once(post: Post) -> None:
    post.courier.errors = {b"strange": ZeroDivisionError()}
    await post.put("strange", "behind it")
    await post.deliver(rounds=3)
    assert [(to, "ZeroDivisionError" in reason) for to, reason in post.reported] == [(HEART, True)]
    post.courier.errors.clear()
    await post.deliver()
    assert post.courier.sent == ["strange", "behind it"]


async def test_a_message_that_the_homeserver_refuses_lets_those_behind_it_go(post: Post) -> None:
    post.courier.errors = {b"refused": HomeserverError("M_FORBIDDEN", retry=False, code="M_FORBIDDEN")}
    await post.put("refused", "behind it")
    await post.deliver()
    assert post.courier.sent == ["behind it"]
    assert post.reported == [(HEART, "M_FORBIDDEN")]


async def test_a_room_waits_in_order_while_the_homeserver_is_away(post: Post) -> None:
    post.courier.errors = {b"one": HomeserverError("away", retry=True)}
    await post.put("one", "two")
    await post.deliver(rounds=3)
    assert post.courier.sent == []
    post.courier.errors.clear()
    await post.deliver()
    assert post.courier.sent == ["one", "two"]
    assert post.reported == []


async def test_a_message_whose_row_was_changed_is_told_of_and_lets_those_behind_it_go(post: Post) -> None:
    await post.put("changed", "behind it")
    async with post.database.write() as connection:
        await connection.execute(
            update(tables.outbox).where(tables.outbox.c.id == 1).values(sealed=b"not what it was")
        )
    await post.deliver()
    assert post.courier.sent == ["behind it"]
    assert [to for to, _ in post.reported] == [HEART]


async def test_an_event_that_does_not_open_is_told_of_and_keeps_no_other_back(post: Post) -> None:
    inbox = IntakeStore(post.database, post.keys, lambda: NOW, lambda: None)
    for words in ("changed", "chest pain"):
        await inbox.accept(IntakeEvent(ChannelId("sms"), Phi(words), EventKind.TEXT, Phi(words)))
    async with post.database.write() as connection:
        await connection.execute(
            update(tables.intake).where(tables.intake.c.seq == 1).values(sealed=b"not what it was")
        )
    loop = Dispatch(desk(post.database, post.keys, lambda: NOW))
    await loop.step()
    async with post.database.read() as connection:
        assert await inbox.waiting(connection, 10) == []
        places, _ = await outbox.destinations(connection, OutboxId(0))
        told = await outbox.head(connection, post.keys, OPERATIONS)
    assert {str(place) for place in places} == {"operations", "role:switchboard"}
    assert told is not None
    assert told.content is not None
    assert "does not open" in told.content.reveal().decode()
