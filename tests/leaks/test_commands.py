"""`nightbell leakcheck` and `nightbell doctor` over a whole hospital."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital

BY = ("--by", "@operator:nightbell.test")


@pytest.fixture(scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    async with Hospital(tmp_path_factory.mktemp("hospital")) as hospital:
        yield hospital


@pytest.fixture(scope="module")
async def ada(hospital: Hospital) -> Clinician:
    """Whoever holds the fallback role, so that the canary's page can be delivered."""
    return await hospital.clinician("okafor")


async def test_canaries_are_found_nowhere_but_at_the_clinicians(hospital: Hospital, ada: Clinician) -> None:
    others = [await hospital.clinician(name) for name in ("lindqvist", "moreau", "operator")]
    bridge, synapse = hospital.bridge, hospital.synapse
    metrics = f"http://127.0.0.1:{bridge.metrics_port}/metrics"
    places = ("--path", str(bridge.directory), "--path", str(synapse.directory), "--url", metrics)
    said = await bridge.command("leakcheck", *BY, *places)
    assert "FOUND" not in said
    read = [message.body for client in (ada, *others) for message in client.messages]
    assert any("Kanári" in body for body in read)


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


async def test_the_doctor_is_content_where_the_bot_may_purge(hospital: Hospital, ada: Clinician) -> None:
    await hospital.synapse.make_admin(hospital.bot)
    for name in ("lindqvist", "moreau", "operator"):
        await hospital.clinician(name)
    said = await hospital.bridge.command("doctor")
    assert "ok      the bot may purge what was sent" in said
    assert "WRONG" not in said
