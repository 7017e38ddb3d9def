"""Refused access is in the ledger, and who is refused can't fill it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bridge.channels.meters import Meters
from bridge.engine.refusals import EVERY, Refusals
from bridge.ledger import Action
from bridge.model.ids import ChannelId
from bridge.store import ledger, outbox
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault

SMS, WCTP = ChannelId("clinic-sms"), ChannelId("wctp")
NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)


class Clock:
    """A clock in the test's hand."""

    at = NOW

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/nightbell.db")
    await database.migrate()
    await KeyRing(Vault(bytes(32))).claim(database, NOW)
    yield database
    await database.close()


def refusing(database: Database, clock: Clock | None = None) -> Refusals:
    return Refusals(database, KeyRing(Vault(bytes(32))), now=clock or Clock(), wake=lambda: None)


async def told(database: Database) -> list[tuple[object, object, str]]:
    async with database.read() as connection:
        last = (await ledger.head(connection)).seq
        records = [link.record async for link in ledger.links(connection, until=last)]
    assert {record.action for record in records} <= {Action.REFUSED}
    return [(record.objects["channel"], record.objects["times"], record.outcome) for record in records]


async def test_a_thousand_refused_requests_are_one_record_that_counts_them(database: Database) -> None:
    refusals = refusing(database)
    meters = Meters.of(CollectorRegistry(), refusals.count)
    for _ in range(1000):
        meters.count(SMS, "bad_signature")
    meters.count(WCTP, "refused_402")
    await refusals.step()
    assert await told(database) == [(SMS, 1000, "bad_signature"), (WCTP, 1, "refused_402")]


async def test_an_attack_that_goes_on_is_told_once_a_minute(database: Database) -> None:
    clock = Clock()
    refusals = refusing(database, clock)
    for _ in range(3):
        refusals.count(SMS, "bad_signature")
        await refusals.step()
    clock.at = NOW + EVERY
    await refusals.step()
    assert await told(database) == [(SMS, 1, "bad_signature"), (SMS, 2, "bad_signature")]


async def test_operations_hear_within_an_hour_once_that_rightly_signed_requests_are_refused_for_their_time(
    database: Database,
) -> None:
    clock = Clock()
    refusals = refusing(database, clock)
    for minutes in (0, 1, 2, 61):
        clock.at = NOW + timedelta(minutes=minutes)
        refusals.count(SMS, "stale_timestamp")
        refusals.count(WCTP, "bad_signature")
        await refusals.step()
    async with database.read() as connection:
        assert await outbox.depth(connection) == 2
    assert len(await told(database)) == 8


async def test_a_clock_that_is_set_back_stops_no_record(database: Database) -> None:
    clock = Clock()
    refusals = refusing(database, clock)
    for days in (0, -7):
        clock.at = NOW + timedelta(days=days)
        refusals.count(SMS, "bad_signature")
        await refusals.step()
    assert len(await told(database)) == 2


async def test_what_was_let_in_or_only_malformed_is_no_refused_access(database: Database) -> None:
    refusals = refusing(database)
    for outcome in ("accepted", "duplicate", "body_too_large", "too_many_requests"):
        refusals.count(SMS, outcome)
    await refusals.step()
    assert await told(database) == []


async def test_what_a_database_that_was_away_did_not_take_is_recorded_later(database: Database) -> None:
    refusals = refusing(database)
    refusals.count(SMS, "bad_signature")
    async with database.write() as connection:
        await connection.run_sync(lambda there: there.exec_driver_sql("ALTER TABLE ledger RENAME TO away"))
    with pytest.raises(Exception, match="ledger"):
        await refusals.step()
    async with database.write() as connection:
        await connection.run_sync(lambda there: there.exec_driver_sql("ALTER TABLE away RENAME TO ledger"))
    refusals.count(SMS, "bad_signature")
    await refusals.step()
    assert await told(database) == [(SMS, 2, "bad_signature")]
