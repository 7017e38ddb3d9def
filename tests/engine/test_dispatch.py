from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bridge.engine import dispatch
from bridge.engine.dispatch import Dispatch
from bridge.engine.rulebook import LiveRulebook, Rulebook
from bridge.model.doors import OPERATIONS
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, OutboxId
from bridge.model.phi import Phi
from bridge.policy.routing import route
from bridge.store import attachments, outbox, pages, tables
from bridge.store.attachments import Waiting
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.vault import Vault
from tests.channels.pbx import Pbx, pbx
from tests.channels.test_asterisk import VOICEMAIL, bridged, until
from tests.channels.test_smtp import send_captured
from tests.channels.wire import SMTP, RememberingInbox, listening
from tests.desk import desk
from tests.policy.hospital import hospital, local

NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)


def strange(router: Any, event: IntakeEvent, *rest: Any) -> Any:
    """A router with a mistake in it."""
    if "strange" in event.body.reveal():
        raise ZeroDivisionError
    return route(router, event, *rest)


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[tuple[Database, KeyRing]]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    await keys.claim(database, NOW)
    yield database, keys
    await database.close()


async def test_what_came_just_before_a_digests_hour_does_not_wait_for_the_next(
    archive: tuple[Database, KeyRing],
) -> None:
    database, keys = archive
    digest, moment = local("2026-11-24 12:00"), timedelta(milliseconds=50)
    inbox = IntakeStore(database, keys, lambda: digest - moment, lambda: None)
    daily = {"role": "switchboard", "priority": "routine", "quiet_hours": "daily"}
    config = hospital(fallback=daily, quiet_hours={"daily": {"digest": ["12:00"]}})
    loop = Dispatch(desk(database, keys, lambda: digest + moment, LiveRulebook(Rulebook.of(config))))
    await inbox.accept(IntakeEvent(ChannelId("sms"), Phi("1"), EventKind.TEXT, Phi("a report")))
    await loop.step()
    async with database.read() as connection:
        [due] = await pages.due_timers(connection, digest + moment, 10)
    assert due.due_at == digest


async def test_an_event_that_cannot_be_routed_goes_to_operations_and_keeps_no_other_back(
    archive: tuple[Database, KeyRing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "route", strange)
    database, keys = archive
    inbox = IntakeStore(database, keys, lambda: NOW, lambda: None)
    loop = Dispatch(desk(database, keys, lambda: NOW))
    for words in ("something strange", "chest pain"):
        await inbox.accept(IntakeEvent(ChannelId("sms"), Phi(words), EventKind.TEXT, Phi(words)))
    await loop.step()
    async with database.read() as connection:
        assert await inbox.waiting(connection, 10) == []
        places, _ = await outbox.destinations(connection, OutboxId(0))
        told = await outbox.head(connection, keys, OPERATIONS)
    assert {str(place) for place in places} == {"operations", "role:switchboard"}
    assert told is not None
    assert told.content is not None
    assert "something strange" in told.content.reveal().decode()


@pytest.mark.parametrize("first", ["call", "mail"])
async def test_a_voicemail_of_which_asterisk_and_its_mail_tell_is_one_page_with_its_recording(
    archive: tuple[Database, KeyRing], told_twice: tuple[IntakeEvent, IntakeEvent], first: str
) -> None:
    """As docs/channels/asterisk.md has it: one rule that fits both, and `bundle`."""
    database, keys = archive
    rule = {"when": {"recipient": ["100@default", "100"]}, "then": {"role": "cardiology", "bundle": "5 min"}}
    inbox = IntakeStore(database, keys, lambda: NOW, lambda: None)
    live = LiveRulebook(Rulebook.of(hospital(rules=[rule])))
    loop = Dispatch(desk(database, keys, lambda: NOW, live))
    for event in reversed(told_twice) if first == "mail" else told_twice:
        await inbox.accept(event)
        await loop.step()
    async with database.read() as connection:
        [[page]] = (await connection.execute(select(tables.page.c.id))).all()
        assert (await pages.get_page(connection, page)).count == 2
        [recording] = await attachments.waiting(connection, keys, NOW, but=(), limit=10)
        assert isinstance(recording, Waiting)
        assert {place.page for place in await attachments.places(connection, recording.intake)} == {page}


@pytest.fixture
async def told_twice() -> tuple[IntakeEvent, IntakeEvent]:
    """The captured call and the captured mail of the same message, as their channels understand them."""
    calls, mails = RememberingInbox(), RememberingInbox()
    async with pbx(Pbx()) as made, bridged(made, calls):
        await made.connected.wait()
        made.writers[0].write(VOICEMAIL)
        await until(lambda: len(calls.events) == 2)
    async with listening(SMTP, mails) as port:
        await send_captured(port, "vm-1795492915573532593")
    return calls.events[0], mails.events[0]
