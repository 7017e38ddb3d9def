"""The operator's key is changed while pages come in, and while the bridge dies: each text is once in the room."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.vault import Vault, VaultError, generate_operator_key, parse_operator_key
from testbed.bridge import CommandFailedError
from testbed.hospital import Hospital
from testbed.shift import Shift
from tests.durability.bursts import Burst, quiet
from tests.durability.conftest import HEART

SEED = int(os.environ.get("NIGHTBELL_TEST_SEED", random.randrange(10**6)))
BY = ("--by", "@operator:nightbell.test")
WRAPPED = "SELECT id, wrapped FROM day_key UNION ALL SELECT id, wrapped FROM lasting_key"


@dataclass
class Safe:
    """Where the operator's keys lie, and the bridge's own record of what they wrap."""

    hospital: Hospital

    @property
    def key(self) -> Path:
        return self.hospital.bridge.directory / "operator_key"

    @property
    def before(self) -> Path:
        return self.hospital.bridge.directory / "operator_key.before"

    def put_in_a_new_key(self) -> None:
        """As the operator does: the old one beside it, and both in nightbell.yaml."""
        self.before.write_text(self.key.read_text())
        self.key.write_text(generate_operator_key())
        self._configure(previous_operator_key=f"file:{self.before}")

    def take_the_old_one_away(self) -> None:
        self._configure()

    def _configure(self, **previous: str) -> None:
        file = self.hospital.bridge.config / "nightbell.yaml"
        document = json.loads(file.read_text())
        document["keys"] = {"operator_key": document["keys"]["operator_key"], **previous}
        file.write_text(json.dumps(document))

    def wrapped(self) -> list[tuple[str, bytes]]:
        with closing(sqlite3.connect(self.hospital.bridge.directory / "nightbell.db", timeout=30)) as rows:
            return list(rows.execute(WRAPPED))


@pytest.fixture
async def safe(hospital: Hospital) -> AsyncIterator[Safe]:
    safe = Safe(hospital)
    yield safe
    safe.take_the_old_one_away()


async def test_the_operators_key_is_changed_while_pages_come_in(
    hospital: Hospital, shift: Shift, safe: Safe
) -> None:
    bridge, pid = hospital.bridge, hospital.bridge.pid
    okafor = await shift.nio("okafor")
    old_rows = safe.wrapped()

    async def while_texts_come_in(*command: str) -> str:
        burst = Burst(hospital, okafor, 8, HEART.number)
        _, said = await asyncio.gather(burst.send(), bridge.command(*command))
        await burst.arrive()
        assert burst.seen == burst.texts
        return said

    safe.put_in_a_new_key()
    with pytest.raises(CommandFailedError, match=f"is not known to .*process {pid} on"):
        await while_texts_come_in("vault", "rotate", *BY)
    assert "Operator keys known: " in await while_texts_come_in("reload")
    assert "no other opens anything here" in await while_texts_come_in("vault", "rotate", *BY)
    safe.take_the_old_one_away()
    assert "Operator keys known: " in await while_texts_come_in("reload")
    assert bridge.pid == pid

    before = parse_operator_key(safe.before.read_text())
    for each in safe.wrapped():
        with pytest.raises(VaultError):
            Vault(before).unwrap(*each)
    files = b"".join(file.read_bytes() for file in bridge.directory.glob("nightbell.db*"))
    assert [name for name, sealed in old_rows if sealed in files] == []
    said = await bridge.command("ledger", "export")
    assert [
        line.split('"outcome":"')[1].split('"')[0] for line in said.splitlines() if "key_rotated" in line
    ][-2:] == ["begun", "done"]


@pytest.mark.slow
async def test_a_bridge_that_is_killed_while_the_key_is_changed_loses_nothing(
    hospital: Hospital, shift: Shift, safe: Safe
) -> None:
    chance = random.Random(SEED)
    bridge = hospital.bridge
    burst = Burst(hospital, await shift.nio("okafor"), 40, HEART.number)
    safe.put_in_a_new_key()

    async def change() -> None:
        await bridge.command("vault", "rotate", *BY)
        safe.take_the_old_one_away()

    async def until_known() -> None:
        """Killed before it knew the new key, the bridge starts with it; until then the change is refused."""
        async with asyncio.timeout(120):
            while True:
                try:
                    return await change()
                except CommandFailedError as error:
                    if "is not known to process" not in str(error):
                        raise

    await asyncio.gather(
        burst.send(), burst.kill_at([chance.random() for _ in range(6)], chance), until_known()
    )
    await burst.arrive()
    await quiet(hospital)
    assert burst.seen == burst.texts, f"seed {SEED}"
    await bridge.stop()
    await bridge.start()
    await bridge.until_bell_ready()
    assert Vault(parse_operator_key(safe.key.read_text())).root.id in await bridge.command("vault", "status")


async def test_a_roster_is_taken_although_the_operators_key_lies_there_no_more_or_is_another(
    hospital: Hospital, safe: Safe
) -> None:
    key = safe.key.read_text()
    try:
        safe.key.write_text(generate_operator_key())
        said = await reloaded(hospital)
        assert "is in force. ⚠️ The operator's keys were not taken again, and those known before stay." in said
        assert "sealed under operator key" in said
        safe.key.unlink()
        assert "can't be read" in await reloaded(hospital)
    finally:
        safe.key.write_text(key)
    assert "keys" not in await reloaded(hospital)


async def reloaded(hospital: Hospital) -> str:
    """What the running bridge answers to a request such as `nightbell reload` makes."""
    with closing(sqlite3.connect(hospital.bridge.directory / "nightbell.db", timeout=30)) as rows:
        with rows:
            [(number,)] = rows.execute(
                "INSERT INTO reload_request (asked_at) VALUES (0) RETURNING id"
            ).fetchall()
        async with asyncio.timeout(60):
            while True:
                query = "SELECT answer FROM reload_request WHERE id = ?"
                [(answer,)] = rows.execute(query, (number,)).fetchall()
                if answer is not None:
                    return str(answer)
                await asyncio.sleep(0.2)
