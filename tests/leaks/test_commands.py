"""`nightbell leakcheck` and `nightbell doctor` over a whole hospital."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from bridge.channels import CHANNEL_TYPES
from bridge.channels.ami import Message
from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.postgres import Postgres
from testbed.synapse import Synapse
from testbed.wards import own_config, write_config
from tests.channels.every_kind import every_kind
from tests.channels.pbx import Pbx, pbx
from tests.channels.wire import SECRETS

BY = ("--by", "@operator:nightbell.test")


@pytest.fixture(scope="module")
async def exchange() -> AsyncIterator[Pbx]:
    async with pbx(Pbx()) as made:
        yield made


@pytest.fixture(scope="module")
async def hospital(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, exchange: Pbx
) -> AsyncIterator[Hospital]:
    """With a channel of every kind, and all rows on PostgreSQL."""
    directory = tmp_path_factory.mktemp("hospital")
    documents = own_config()
    documents["nightbell.yaml"]["channels"] |= every_kind(directory, exchange.port)
    async with Hospital(
        directory,
        config=write_config(directory / "config", documents),
        database_url=await postgres.create_database("leaks"),
        synapse_database_url=await postgres.create_database("leaks_synapse", Synapse.DATABASE_OPTIONS),
        environment=SECRETS,
    ) as hospital:
        yield hospital


@pytest.fixture(scope="module")
async def ada(hospital: Hospital) -> Clinician:
    """Whoever holds the fallback role, so that the canary's page can be delivered."""
    return await hospital.clinician("okafor")


def places(hospital: Hospital) -> list[str]:
    """All that keeps or shows anything, as `leakcheck` is told of it."""
    bridge, synapse = hospital.bridge, hospital.synapse
    directories = [word for each in (bridge, synapse) for word in ("--path", str(each.directory))]
    databases = [word for each in (bridge, synapse) for word in ("--database", each.database_url)]
    return [*directories, *databases, "--url", f"http://127.0.0.1:{bridge.metrics_port}/metrics"]


async def test_canaries_through_every_kind_of_channel_are_found_nowhere_but_at_the_clinicians(
    hospital: Hospital, ada: Clinician, exchange: Pbx
) -> None:
    others = [await hospital.clinician(name) for name in ("lindqvist", "moreau", "operator")]
    await exchange.connected.wait()
    said = await hospital.bridge.command("leakcheck", *BY, *places(hospital))
    assert {kind for kind in CHANNEL_TYPES if re.search(rf"{kind}-door +│ planted ", said)} == set(
        CHANNEL_TYPES
    )
    assert len(re.findall(r"│ 0 +│\n", said)) == 5
    read = [message.body for client in (ada, *others) for message in client.messages]
    checks = [body for body in read if "Kanári" in body]
    assert len(checks) >= len(CHANNEL_TYPES)
    assert any("Ünal" in body and "1555" in re.sub(r"\D", "", body) for body in checks)


async def test_a_canary_that_comes_into_a_database_is_found_and_the_place_named(
    hospital: Hospital, ada: Clinician, exchange: Pbx, postgres: Postgres
) -> None:
    async def leak(action: Message) -> None:
        if action["action"] == "UserEvent":
            topic = json.dumps({"type": "m.room.topic", "content": {"topic": action["body"]}})
            row = ("$planted", "!r", "{}", topic, 3)
            await execute(
                hospital.synapse.database_url, "INSERT INTO event_json VALUES ($1, $2, $3, $4, $5)", *row
            )
            number = action["calleridnum"].encode()
            await execute(hospital.bridge.database_url, "INSERT INTO planted VALUES ($1)", number)

    await execute(hospital.bridge.database_url, "CREATE TABLE planted (raw bytea)")
    exchange.overheard = leak
    try:
        with pytest.raises(CommandFailedError) as failed:
            await hospital.bridge.command("leakcheck", *BY, *places(hospital))
    finally:
        exchange.overheard = None
        await execute(hospital.bridge.database_url, "DROP TABLE planted")
        await execute(hospital.synapse.database_url, "DELETE FROM event_json WHERE event_id = '$planted'")
    found = [line.partition("FOUND: ")[2] for line in str(failed.value).splitlines() if "FOUND" in line]
    where = f"127.0.0.1:{postgres.port}/leaks"
    assert sorted(found) == [
        f"number, hexadecimal, in {where}, table public.planted",
        f"words, JSON escapes, in {where}_synapse, table public.event_json",
    ]


async def execute(url: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def test_the_doctor_finds_who_can_not_be_reached(hospital: Hospital, ada: Clinician) -> None:
    with pytest.raises(CommandFailedError) as failed:
        await hospital.bridge.command(
            "doctor", "--homeserver-config", str(hospital.synapse.directory / "homeserver.yaml")
        )
    said = str(failed.value)
    assert re.search(r"ok +Dr\. .*okafor:nightbell\.test\) can be reached", said)
    assert "ok      the bot's device is signed by the bot's identity" in said
    assert "WRONG   the bot may purge what was sent" in said
    assert "ok      what was redacted does not stay readable in the database" in said
    assert "ok      the database is made for many users" in said


async def test_the_doctor_is_content_where_the_bot_may_purge(hospital: Hospital, ada: Clinician) -> None:
    await hospital.synapse.make_admin(hospital.bot)
    for name in ("lindqvist", "moreau", "operator"):
        await hospital.clinician(name)
    said = await hospital.bridge.command("doctor")
    assert "ok      the bot may purge what was sent" in said
    assert "ok      the newest event of a room" in said
    assert "advice  the homeserver's settings were looked through" in said
    assert "WRONG" not in said
