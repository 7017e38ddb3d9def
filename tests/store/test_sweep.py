# ruff: noqa: ARG002 - a homeserver in memory need not look at everything
"""A sweep that is cut off at any of its requests goes on where it stood."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select

from bridge import ledger as chain
from bridge.config.retention import RetentionClass, RetentionConfig
from bridge.engine.retain import Retention
from bridge.engine.rulebook import CurrentRulebook
from bridge.ledger import Action
from bridge.model.doors import Presence, Purge, Upload, Witness
from bridge.model.errors import HomeserverDatabaseError, HomeserverError
from bridge.model.ids import EventId, RoomId
from bridge.model.phi import Phi
from bridge.policy.retention import Hold, HoldKind, Life
from bridge.store import holds, ledger, matrix_inbox, pages, retention, tables
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from tests.store.conftest import NOW
from tests.store.test_attachments import HERE, upload
from tests.store.test_retention import HEART, LATER, ROOM, STANDARD, intake_of, open_page

DAYS = timedelta(days=3)
FILE = "mxc://nightbell.test/a"


class Homeserver:
    """Holds events in memory, and is gone when it has answered so many requests."""

    def __init__(self, events: dict[str, list[str]], *, admin: bool = True) -> None:
        self.below = events
        self.events = [event for root, below in events.items() for event in (root, *below)]
        self.redacted: dict[str, str] = {}
        self.files: set[str] = set()
        self.of_others: set[str] = set()
        self.admin = admin
        self.answers_left = 10**6

    def _answer(self) -> None:
        if self.answers_left == 0:
            raise HomeserverError("away", retry=True)
        self.answers_left -= 1

    async def related(self, room: RoomId, event: EventId) -> list[EventId]:
        self._answer()
        return [EventId(child) for child in self.below.get(event, [])]

    async def redact(self, room: RoomId, event: EventId, transaction: str) -> EventId | None:
        self._answer()
        self.redacted.setdefault(event, transaction)
        assert self.redacted[event] == transaction
        return EventId(f"{event}-redaction")

    async def mark(self, room: RoomId, transaction: str) -> EventId | None:
        self._answer()
        return EventId("$mark")

    async def delete_file(self, upload: Upload) -> Presence | None:
        self._answer()
        if upload.by is not None and upload.mxc in self.of_others:
            return None
        if self.admin:
            self.files.discard(upload.mxc)
        return Presence.THERE if upload.mxc in self.files else Presence.PURGED

    async def purge(self, room: RoomId, before: EventId) -> Purge:
        self._answer()
        if not self.admin:
            return Purge.NOT_ALLOWED
        known = [event for event in self.events if event == before]
        self.events = self.events[self.events.index(before) :] if known else []
        return Purge.DONE

    async def forget_keys(self, before: datetime) -> int:
        return 0

    async def look(self, room: RoomId, event: EventId) -> Presence:
        self._answer()
        if event not in self.events:
            return Presence.PURGED
        return Presence.REDACTED if event in self.redacted else Presence.THERE


class Rows:
    """A homeserver's database that is looked into."""

    def __init__(self, left: dict[str, tuple[str, ...]]) -> None:
        self.left = left
        self.readable = True

    async def left_of(self, events: Sequence[EventId], files: Sequence[str]) -> dict[str, tuple[str, ...]]:
        if not self.readable:
            raise HomeserverDatabaseError("away")
        return {name: self.left[name] for name in (*events, *files) if name in self.left}


def sweeper(
    database: Database,
    keys: KeyRing,
    homeserver: Homeserver,
    now: Callable[[], datetime] = lambda: LATER,
    witness: Witness | None = None,
) -> Retention:
    book = SimpleNamespace(
        config=SimpleNamespace(
            retention=RetentionConfig(
                classes={STANDARD: RetentionClass(keep=timedelta(days=3), at_latest=timedelta(days=3))}
            ),
            nightbell=SimpleNamespace(encryption=SimpleNamespace(rotate_after=timedelta(days=7))),
        )
    )
    rulebook = cast("CurrentRulebook", lambda: book)
    return Retention(database, keys, homeserver, rulebook, now=now, witness=witness)


async def certificates(database: Database, keys: KeyRing) -> list[dict[str, Any]]:
    async with database.read() as connection:
        texts = await retention.certificates(connection)
    key = keys.signer().public_key()
    return [chain.read_statement("certificate of destruction", text, key) for text in texts]


@pytest.mark.parametrize("answers", range(12))
async def test_a_sweep_goes_on_after_a_crash_at_any_request(
    database: Database, keys: KeyRing, inbox: IntakeStore, answers: int
) -> None:
    for number in ("1", "2"):
        await open_page(database, keys, inbox, number)
    homeserver = Homeserver({"$1": ["$1-edit"], "$2": []})
    homeserver.answers_left = answers
    try:
        await sweeper(database, keys, homeserver).step()
    except HomeserverError:
        homeserver.answers_left = 10**6
        await sweeper(database, keys, homeserver).step()
    written = await certificates(database, keys)
    assert homeserver.redacted.keys() == {"$1", "$1-edit", "$2"}
    looked = [event for certificate in written for event in certificate["events"]]
    assert {event["event"] for event in looked} == {"$1", "$1-edit", "$2"}
    assert {event["homeserver_has"] for event in looked} == {"purged"}
    async with database.read() as connection:
        last = (await ledger.head(connection)).seq
        actions = [link.record.action async for link in ledger.links(connection, until=last)]
    assert actions.count(Action.DESTROYED) == 2


async def test_held_content_survives_a_sweep_and_the_homeserver_keeps_it(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    held, _ = [await open_page(database, keys, inbox, number) for number in ("1", "2")]
    async with database.write() as connection:
        hold = Hold("case", HoldKind.PAGE, held.page)
        await holds.place(connection, keys, hold, reason=Phi("Court"), by="@counsel", now=NOW)
    homeserver = Homeserver({"$1": [], "$2": []})
    await sweeper(database, keys, homeserver).step()
    assert homeserver.events == ["$1", "$2"]
    assert homeserver.redacted.keys() == {"$2"}
    async with database.read() as connection:
        event, _ = await inbox.event_of(connection, await intake_of(database, held))
        assert event.body == Phi("Bed 12")
    async with database.write() as connection:
        await holds.lift(connection, "case", "@counsel", LATER)
    await sweeper(database, keys, homeserver).step()
    assert homeserver.events == []


async def test_a_hold_that_is_placed_during_a_sweep_keeps_what_the_sweep_has_found_already(
    database: Database, keys: KeyRing, inbox: IntakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = await open_page(database, keys, inbox, "1")
    find = retention.lives

    async def found_and_then_held(*search: Any, **bounds: Any) -> list[Life]:
        lives = await find(*search, **bounds)
        if lives:
            async with database.write() as connection:
                hold = Hold("case", HoldKind.PAGE, life.page)
                await holds.place(connection, keys, hold, reason=Phi("Court"), by="@counsel", now=NOW)
        return lives

    monkeypatch.setattr(retention, "lives", found_and_then_held)
    homeserver = Homeserver({"$1": []})
    await sweeper(database, keys, homeserver).step()
    assert homeserver.redacted == {}
    async with database.read() as connection:
        event, _ = await inbox.event_of(connection, await intake_of(database, life))
        assert event.body == Phi("Bed 12")


async def test_a_page_that_was_destroyed_since_it_was_found_is_not_destroyed_again(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    life = await open_page(database, keys, inbox, "1")
    async with database.write() as connection:
        assert await retention.destroy_pages(connection, keys, [(life, "recalled")], NOW) == [life.page]
    async with database.write() as connection:
        assert await retention.destroy_pages(connection, keys, [(life, "its time is up")], NOW) == []


async def test_files_of_people_go_with_the_last_message_that_shows_them_and_only_their_own(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    held, _ = [await open_page(database, keys, inbox, number) for number in ("1", "2")]
    again, own, avatar = (f"mxc://test/{name}" for name in ("again", "own", "avatar"))
    said = [("$below-1", "$1", [again]), ("$below-2", "$2", [again, own, avatar])]
    async with database.write() as connection:
        for event, about, files in said:
            content = {"m.relates_to": {"rel_type": "m.thread", "event_id": about}}
            found = {"event_id": event, "sender": "@okafor:test", "type": "m.room.encrypted"}
            event_of = {**found, "content": content, "origin_server_ts": 0}
            await matrix_inbox.keep_events(connection, ROOM, [event_of], NOW)
            await matrix_inbox.keep_files(connection, EventId(event), files)
        hold = Hold("case", HoldKind.PAGE, held.page)
        await holds.place(connection, keys, hold, reason=Phi("Court"), by="@counsel", now=NOW)
    homeserver = Homeserver({"$1": [], "$2": []})
    homeserver.files = {again, own, avatar}
    homeserver.of_others = {avatar}
    await sweeper(database, keys, homeserver).step()
    assert homeserver.files == {again, avatar}
    [written] = await certificates(database, keys)
    assert written["files"] == [{"file": own, "homeserver_has": "purged"}]
    async with database.write() as connection:
        await holds.lift(connection, "case", "@counsel", LATER)
    await sweeper(database, keys, homeserver).step()
    assert homeserver.files == {avatar}


@pytest.mark.parametrize("kind", HoldKind)
async def test_each_kind_of_hold_beats_the_clock_and_the_rest_of_the_day_goes(
    database: Database, keys: KeyRing, inbox: IntakeStore, kind: HoldKind
) -> None:
    life = await open_page(database, keys, inbox, "1")
    assert life.caller is not None
    about = {
        HoldKind.PAGE: life.page,
        HoldKind.ROOM: ROOM,
        HoldKind.ROLE: HEART,
        HoldKind.NUMBER: life.caller.hex(),
        HoldKind.RANGE: "",
    }
    hold = Hold("case", kind, about[kind], start=NOW, until=NOW + timedelta(seconds=1))
    async with database.write() as connection:
        await holds.place(connection, keys, hold, reason=Phi("Court"), by="@counsel", now=NOW)
    homeserver = Homeserver({"$1": []})
    await sweeper(database, keys, homeserver).step()
    assert homeserver.redacted == {}
    assert await certificates(database, keys) == []
    async with database.read() as connection:
        event, key = await inbox.event_of(connection, await intake_of(database, life))
        assert event.body == Phi("Bed 12")
        query = select(tables.day_key.c.retention, tables.day_key.c.day).join(tables.data_key)
        under = (await connection.execute(query.where(tables.data_key.c.id == key.id))).one()
    assert tuple(under) == ("hold", "case")


async def test_a_certificate_says_where_the_homeserver_did_not_let_us(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1")
    await sweeper(database, keys, Homeserver({"$1": []}, admin=False)).step()
    (certificate,) = await certificates(database, keys)
    assert "may not purge" in json.dumps(certificate["what_may_remain"])
    assert certificate["events"][0]["homeserver_has"] == "redacted"


async def test_what_a_purge_left_in_the_homeservers_database_stands_in_the_certificate(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1")
    rows = Rows({"$1": ("event_json", "ciphertext")})
    await sweeper(database, keys, Homeserver({"$1": []}), witness=rows).step()
    (certificate,) = await certificates(database, keys)
    assert certificate["homeserver_database"] == "looked at"
    assert certificate["events"][0]["homeserver_has"] == "purged"
    assert certificate["events"][0]["its_database_has"] == ["event_json", "ciphertext"]
    assert "somebody must look" in json.dumps(certificate["what_may_remain"])


async def test_no_certificate_is_written_before_the_homeservers_database_could_be_looked_into(
    database: Database, keys: KeyRing, inbox: IntakeStore
) -> None:
    await open_page(database, keys, inbox, "1")
    homeserver, rows = Homeserver({"$1": []}), Rows({})
    rows.readable = False
    with pytest.raises(HomeserverDatabaseError):
        await sweeper(database, keys, homeserver, witness=rows).step()
    assert await certificates(database, keys) == []
    rows.readable = True
    await sweeper(database, keys, homeserver, witness=rows).step()
    (certificate,) = await certificates(database, keys)
    assert certificate["events"][0]["its_database_has"] == []


@pytest.mark.parametrize(("admin", "left"), [(True, "purged"), (False, "there")])
async def test_what_was_uploaded_for_a_page_is_deleted_with_it(
    database: Database, keys: KeyRing, inbox: IntakeStore, *, admin: bool, left: str
) -> None:
    await open_page(database, keys, inbox, "1", HERE)
    await upload(database, keys)
    homeserver = Homeserver({"$1": []}, admin=admin)
    homeserver.files = {FILE, "mxc://nightbell.test/of-another"}
    await sweeper(database, keys, homeserver).step()
    (certificate,) = await certificates(database, keys)
    assert certificate["files"] == [{"file": FILE, "homeserver_has": left}]
    assert (FILE in homeserver.files) is not admin
    assert "mxc://nightbell.test/of-another" in homeserver.files
    assert ("delete them by the admin API" in json.dumps(certificate["what_may_remain"])) is not admin


async def test_nothing_goes_before_its_time(database: Database, keys: KeyRing, inbox: IntakeStore) -> None:
    life = await open_page(database, keys, inbox, "1")
    await sweeper(database, keys, Homeserver({"$1": []}), lambda: NOW + timedelta(days=2)).step()
    async with database.read() as connection:
        assert (await pages.get_page(connection, life.page)).role == HEART
        assert len(await retention.lives(connection, STANDARD, limit=10)) == 1
    assert await certificates(database, keys) == []
