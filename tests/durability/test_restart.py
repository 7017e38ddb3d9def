"""A restart changes nothing: the same device of the same identity, the same rooms, nothing said twice."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.callcenter import Answer
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import ward_config
from tests.durability.bursts import Burst, quiet
from tests.durability.conftest import HEART, STAFF, WARDS

SEED = int(os.environ.get("NIGHTBELL_TEST_SEED", random.randrange(10**6)))
IDENTITY_KEYS = 3  # master, self-signing and user-signing


@dataclass(frozen=True)
class Standing:
    """What the homeserver has of the bot."""

    devices: frozenset[str]
    identity: frozenset[str]
    rooms: frozenset[str]
    events: int


def standing(hospital: Hospital) -> Standing:
    def found(query: str) -> list[str]:
        file = f"file:{hospital.synapse.database_path}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=30)) as database:
            return [str(row[0]) for row in database.execute(query, (hospital.bot,)).fetchall()]

    return Standing(
        devices=frozenset(found("SELECT device_id FROM devices WHERE user_id = ? AND NOT hidden")),
        identity=frozenset(found("SELECT keydata FROM e2e_cross_signing_keys WHERE user_id = ?")),
        rooms=frozenset(found("SELECT room_id FROM rooms WHERE creator = ?")),
        events=len(found("SELECT event_id FROM events WHERE sender = ?")),
    )


async def test_five_restarts_leave_no_trace(hospital: Hospital, shift: Shift) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    await burst.send()
    await burst.arrive()
    await quiet(hospital)
    before = standing(hospital)
    for strike in (hospital.bridge.stop, hospital.bridge.kill) * 3:
        await strike()
        await hospital.bridge.start()
        await hospital.bridge.until_bell_ready()
        await quiet(hospital)
    assert standing(hospital) == before


@pytest.mark.slow
async def test_a_bridge_that_dies_again_and_again_in_its_first_lives_makes_each_room_once(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    hospital = Hospital(tmp_path, config=ward_config(tmp_path / "config", WARDS), staff=STAFF)
    try:
        await hospital.open(bridge=False)
        for _ in range(8):
            await hospital.bridge.start()
            await asyncio.sleep(chance.uniform(0, 1))
            await hospital.bridge.kill()
        await hospital.bridge.start()
        await hospital.bridge.until_bell_ready()
        async with asyncio.timeout(60):
            while len(standing(hospital).rooms) < len(WARDS) + 1:
                await asyncio.sleep(0.1)
        await hospital.bridge.stop()
        found = standing(hospital)
        assert len(found.rooms) == len(WARDS) + 1, f"seed {SEED}"
        assert len(found.identity) == IDENTITY_KEYS
    finally:
        await hospital.close()


async def test_what_was_accepted_as_the_bridge_was_stopped_arrives_after_its_start(
    hospital: Hospital, shift: Shift
) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 40, HEART.number)
    texts = [hospital.text(text, to=HEART.number) for text in burst.texts]
    sending = asyncio.gather(*texts, return_exceptions=True)
    await asyncio.sleep(0.02)
    await hospital.bridge.stop()
    accepted = {
        text
        for text, answer in zip(burst.texts, await sending, strict=True)
        if isinstance(answer, Answer) and answer.accepted
    }
    await hospital.bridge.start()
    await burst.reader.wait_for(lambda: accepted <= set(burst.seen), 60)
    await quiet(hospital)
    assert len(burst.seen) == len(set(burst.seen))
