"""Content goes from a real homeserver, from its database and its media store, and from the vault."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bridge import ledger
from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician, Message
from testbed.hospital import CARDIOLOGY_LINE, Hospital
from testbed.postgres import Postgres
from testbed.process import free_port
from testbed.synapse import Synapse
from testbed.wards import Ward, overlaid, own_config, ward_config
from tests.media.listening import mail

PATIENCE_SECONDS = 60
LIFETIME = timedelta(hours=1)
SMTP_PORT = free_port()
CHANNELS = {
    "mail": {
        "type": "smtp",
        "port": SMTP_PORT,
        "peers": "127.0.0.1",
        "domains": "pager.example",
        "require_tls": False,
    }
}
# An id and nothing else: where a room ended at a moment (for a month), what workers must read again (for a week), and
# of which thread somebody's unread messages were counted.
IDS_ALONE = {
    "stream_ordering_to_exterm",
    "cache_invalidation_stream_by_instance",
    "event_push_summary",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def hospital(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, request: pytest.FixtureRequest
) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("retention")
    # One ward without hand-overs: nothing that the bridge says there by itself keeps a purge back.
    ward = Ward("cardiology", ("okafor", "lindqvist"), CARDIOLOGY_LINE)
    connected = {"channels": CHANNELS, "homeserver": {"database": "env:HOMESERVER_DATABASE"}}
    config = ward_config(directory / "config", [ward], nightbell=connected)
    classes = {"standard": {"keep": "1 h", "after": "arrival", "at_latest": "1 h"}}
    document = overlaid(own_config()["retention.yaml"], {"classes": classes})
    (config / "retention.yaml").write_text(json.dumps(document, default=str))
    url, reader = None, f"sqlite:///{directory / 'synapse' / 'homeserver.db'}"
    if request.param == "postgresql":
        url = await postgres.create_database("synapse", Synapse.DATABASE_OPTIONS)
        await _execute(url, "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader")
        reader = url.replace("postgres@", "reader@")
    hospital = Hospital(
        directory,
        config=config,
        synapse_database_url=url,
        environment={"HOMESERVER_DATABASE": reader},
        clock=datetime.now(UTC),
    )
    try:
        await hospital.open()
        yield hospital
    finally:
        await hospital.close()


@pytest.fixture(scope="module")
async def ada(hospital: Hospital) -> Clinician:
    client = await hospital.clinician("okafor")
    await client.entrusted()
    return client


async def certificate(hospital: Hospital, event: str) -> dict[str, Any]:
    """The certificate that names an event, once its time is over."""
    key = ledger.read_public_key(await hospital.bridge.command("ledger", "public-key"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            printed = (await hospital.bridge.command("retention", "certificates")).splitlines()
            for text in filter(lambda line: line.startswith("{"), printed):
                said = ledger.read_statement("certificate of destruction", text, key)
                if event in {each["event"] for each in said["events"]}:
                    return said
            await asyncio.sleep(1)


async def tables_with(hospital: Hospital, words: str) -> set[str]:
    """Every table of the homeserver's database in any column of which the words stand."""
    url = hospital.synapse.database_url
    if url.startswith("sqlite"):
        return await asyncio.to_thread(_sqlite_tables_with, hospital.synapse.database_path, words)
    connection = await asyncpg.connect(url, timeout=30)
    try:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        tables = [row["tablename"] for row in await connection.fetch(names)]
        query = 'SELECT 1 FROM "{}" AS one WHERE position($1 in one::text) > 0 LIMIT 1'
        return {name for name in tables if await connection.fetch(query.format(name), words)}
    finally:
        await connection.close(timeout=30)


def _sqlite_tables_with(file: Path, words: str) -> set[str]:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        database.text_factory = bytes
        listed = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'event_search%'"
        tables = [name.decode() for (name,) in database.execute(listed)]
        found = set()
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - a name that SQLite gave
            if any(words.encode() in value for row in rows for value in row if isinstance(value, bytes)):
                found.add(table)
        return found


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close(timeout=30)


def blobs(hospital: Hospital) -> set[str]:
    """The files of the homeserver's media store."""
    return {str(file) for file in hospital.synapse.media_path.rglob("*") if file.is_file()}


async def picture(ada: Clinician) -> tuple[Message, Message]:
    """A page with a picture in its thread."""
    note = EmailMessage()
    note["From"], note["To"], note["Subject"] = "pbx@pbx1.example", "100@pager.example", "Bed 12"
    note.set_content("Bed 12 has no pulse, see the strip")
    note.add_attachment(b"\x89PNG strip", maintype="image", subtype="png", filename="strip.png")
    await mail(SMTP_PORT, note.as_bytes())
    page = await ada.message("see the strip")
    return page, await ada.wait_for(
        lambda: next((message for message in ada.messages if "file" in message.content), None)
    )


async def test_where_the_bot_may_not_purge_the_certificate_says_so(
    hospital: Hospital, ada: Clinician
) -> None:
    await hospital.text("Bed 10 is cold")
    early = await ada.message("Bed 10 is cold")
    await hospital.text("Bed 11 has a fever")
    page = await ada.message("Bed 11 has a fever")
    await purged_by_an_administrator(hospital, ada, early, before=page)
    hospital.travel(2 * LIFETIME)
    said = await certificate(hospital, page.event_id)
    assert {event["homeserver_has"] for event in said["events"]} == {"redacted"}
    assert any("may not purge" in left for left in said["what_may_remain"])
    [of_page] = [event for event in said["events"] if event["event"] == page.event_id]
    assert of_page["its_database_has"] == ["events", "event_json", "ciphertext"]
    # What somebody else has purged already keeps no sweep from going on.
    said = await certificate(hospital, early.event_id)
    [of_early] = [event for event in said["events"] if event["event"] == early.event_id]
    assert of_early["homeserver_has"] == "purged"


async def test_after_its_time_a_page_is_nowhere_on_the_homeserver(hospital: Hospital, ada: Clinician) -> None:
    await hospital.synapse.make_admin(hospital.bot)
    page, strip = await picture(ada)
    await ada.react(page.event_id, "✅")
    await ada.message("Accepted by")
    reply = await ada.say(page.room_id, "Strip seen", thread=page.event_id)
    photo, photo_mxc = await ada.show(page.room_id, b"\x89PNG wound", thread=page.event_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while photo not in _rows(hospital, "SELECT event_id FROM inbound WHERE state = 'done'"):
            await asyncio.sleep(0.2)
    _, sent = await ada.request("GET", f"/rooms/{page.room_id}/event/{page.event_id}")
    ciphertext = sent["content"]["ciphertext"]
    mxc = strip.content["file"]["url"]
    name = mxc.rsplit("/", 1)[-1]
    assert await tables_with(hospital, ciphertext) == {"event_json"}
    assert "local_media_repository" in await tables_with(hospital, name)
    assert blobs(hospital)
    backup = hospital.directory / "backup.db"
    await asyncio.to_thread(_back_up, hospital, backup)
    [named] = _rows(hospital, "SELECT page FROM outbox WHERE event = ?", page.event_id)
    assert "see the strip" in await break_glass(hospital, named)

    hospital.travel(timedelta(days=2))
    said = await certificate(hospital, page.event_id)
    assert {page.event_id, strip.event_id, reply, photo} <= {event["event"] for event in said["events"]}
    assert {event["homeserver_has"] for event in said["events"]} == {"purged"}
    assert [tuple(event["its_database_has"]) for event in (*said["events"], *said["files"])] == [
        () for _ in (*said["events"], *said["files"])
    ]
    assert {(file["file"], file["homeserver_has"]) for file in said["files"]} == {
        (mxc, "purged"),
        (photo_mxc, "purged"),
    }
    for event in said["events"]:
        assert await tables_with(hospital, event["event"]) <= IDS_ALONE
    assert await tables_with(hospital, ciphertext) == set()
    assert await tables_with(hospital, name) == set()
    assert blobs(hospital) == set()

    late = await hospital.clinician("lindqvist")
    await late.wait_for(lambda: page.room_id in late.rooms)
    status, _ = await late.request("GET", f"/rooms/{page.room_id}/event/{page.event_id}")
    assert status == 404
    assert not {page.event_id, strip.event_id, reply} & {m.event_id for m in late.messages}
    assert not {page.event_id, strip.event_id, reply} & set(late.undecryptable)

    await asyncio.to_thread(_put_back, hospital, backup)
    with pytest.raises(CommandFailedError, match="was destroyed"):
        await break_glass(hospital, named)


async def purged_by_an_administrator(
    hospital: Hospital, ada: Clinician, message: Message, *, before: Message
) -> None:
    """Somebody was quicker than the bridge."""
    where = f"/_synapse/admin/v1/purge_history/{message.room_id}/{before.event_id}"
    await hospital.synapse.administrate("POST", where, {"delete_local_events": True})
    async with asyncio.timeout(PATIENCE_SECONDS):
        status = 200
        while status != 404:
            status, _ = await ada.request("GET", f"/rooms/{message.room_id}/event/{message.event_id}")
            await asyncio.sleep(0.2)


async def break_glass(hospital: Hospital, page: str) -> str:
    """What a page says, as the vault has it."""
    why = ("--by", hospital.user_id("operator"), "--reason", "Drill")
    return await hospital.bridge.command("break-glass", "--page", page, *why)


def _rows(hospital: Hospital, query: str, *values: str) -> list[str]:
    with sqlite3.connect(hospital.bridge.directory / "nightbell.db", timeout=30) as database:
        return [value for (value,) in database.execute(query, values)]


def _back_up(hospital: Hospital, to: Path) -> None:
    with (
        sqlite3.connect(hospital.bridge.directory / "nightbell.db", timeout=30) as database,
        sqlite3.connect(to) as copy,
    ):
        database.backup(copy)


def _put_back(hospital: Hospital, backup: Path) -> None:
    """What was said, from a backup; the keys of its day lie in none that is to be had."""
    with sqlite3.connect(hospital.bridge.directory / "nightbell.db", timeout=30) as database:
        database.execute("ATTACH ? AS backup", (str(backup),))
        for table in ("intake", "data_key"):
            database.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM backup.{table}")  # noqa: S608
