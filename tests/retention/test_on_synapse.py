"""Content goes from a real homeserver, and from what it keeps on disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bridge import ledger
from testbed.bridge import ROOT
from testbed.hospital import Hospital

CLASSES = {
    "standard": {"keep": "6 s", "after": "arrival", "at_latest": "6 s"},
    "operations": {"keep": "1 h", "after": "arrival"},
}
QUICK = {"sweep_every": "1 s", "classes": CLASSES}
PATIENCE_SECONDS = 60
KNOWS = {
    "events": "SELECT 1 FROM events WHERE event_id = ?",
    "event_json": "SELECT 1 FROM event_json WHERE event_id = ?",
}


def config_with(directory: Path, retention: dict[str, Any]) -> Path:
    shutil.copytree(ROOT / "config", directory)
    known = YAML(typ="safe").load((directory / "retention.yaml").read_text())["classes"]
    document = {**retention, "classes": {**known, **retention["classes"]}}
    (directory / "retention.yaml").write_text(json.dumps(document, default=str))
    return directory


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    hospital = Hospital(tmp_path, config=config_with(tmp_path / "config", QUICK))
    try:
        await hospital.open(bridge=False)
        yield hospital
    finally:
        await hospital.close()


async def certificates(hospital: Hospital, number: int = 1) -> list[dict[str, Any]]:
    """What the first certificates say, once there are so many."""
    key = ledger.read_public_key(await hospital.bridge.command("ledger", "public-key"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            written = (await hospital.bridge.command("retention", "certificates")).splitlines()
            if len(written) >= number:
                return [ledger.read_statement("certificate of destruction", text, key) for text in written]
            await asyncio.sleep(1)


def found(hospital: Hospital, event: str) -> list[str]:
    """The tables of the homeserver's database that still know an event."""
    with sqlite3.connect(f"file:{hospital.synapse.database_path}?mode=ro", uri=True) as database:
        return [table for table, query in KNOWS.items() if database.execute(query, (event,)).fetchone()]


async def test_a_page_is_gone_from_the_homeservers_database(hospital: Hospital) -> None:
    ada = await hospital.clinician("okafor")
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    await hospital.synapse.make_admin(hospital.bot)
    await hospital.text("Bed 12 has no pulse")
    page = await ada.message("Bed 12 has no pulse")
    assert found(hospital, page.event_id) == ["events", "event_json"]
    (certificate, *_) = await certificates(hospital)
    assert {event["homeserver_has"] for event in certificate["events"]} == {"purged"}
    assert page.event_id in {event["event"] for event in certificate["events"]}
    assert found(hospital, page.event_id) == []


async def test_where_the_bot_may_not_purge_the_certificate_says_so(hospital: Hospital) -> None:
    ada = await hospital.clinician("okafor")
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    await hospital.text("Bed 12 has no pulse")
    await ada.message("Bed 12 has no pulse")
    (certificate, *_) = await certificates(hospital)
    assert {event["homeserver_has"] for event in certificate["events"]} == {"redacted"}
    assert any("may not purge" in left for left in certificate["what_may_remain"])
