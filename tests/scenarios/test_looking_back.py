"""What the commands know from the database: past events by another configuration, and shifts that were taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital
from tests.scenarios.story import asked, at, people, replies, write_config

BEGINS = "2026-11-24 09:00"
STAFF = ("ada", "ben")
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF)}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    members: [ada, ben]
    schedule: {{layers: [{{people: [ada, ben], hand_off: {{every: week, from: 2026-11-23 08:00}}}}]}}
  surgery:
    name: Surgery
    room: {{name: Surgery}}
    members: [ben]
    schedule: {{layers: [{{people: ben}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: patient, template: standard, retention: standard}
fallback: {role: cardiology}
ladders:
  patient: {steps: [{after: 20 h, notify: next}, {after: 20 h, notify: operations}]}
"""
OTHERWISE = ROUTING + "rules: [{when: {words: stitches}, then: {role: surgery, priority: stat}}]"


@pytest.fixture(scope="module")
async def evening(hospital: Hospital, staff: Staff) -> str:
    """Two texts that went to cardiology; gives its room."""
    for words in ("my stitches hurt", "a quiet question"):
        await hospital.text(words, to=LINE)
        page = await staff["ada"].message(words)
    return page.room_id


async def replay(hospital: Hospital, config: Path) -> str:
    """The command's output, whatever its exit code."""
    before, hospital.bridge.config = hospital.bridge.config, config
    try:
        return await hospital.bridge.command("replay", "--since", "30d")
    finally:
        hospital.bridge.config = before


async def test_a_replay_by_the_same_configuration_finds_no_difference(
    hospital: Hospital, evening: str
) -> None:
    assert "2 events go where they went, 0 would" in await replay(hospital, hospital.bridge.config)


async def test_a_replay_shows_whom_other_rules_would_have_paged_and_nothing_of_the_words(
    hospital: Hospital, evening: str, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailedError) as ended:
        await replay(hospital, write_config(tmp_path, roles=ROLES, routing=OTHERWISE))
    said = str(ended.value)
    assert "1 events go where they went, 1 would go elsewhere" in said
    assert "cardiology, urgent: ada" in said
    assert "surgery, stat: ben" in said
    assert "ended with 1" in said
    assert "stitches" not in said
    assert "555" not in said


async def test_a_replay_says_how_many_it_could_not_look_at(hospital: Hospital, evening: str) -> None:
    with closing(sqlite3.connect(hospital.bridge.directory / "nightbell.db", timeout=30)) as database:
        database.execute("DELETE FROM data_key WHERE id = (SELECT data_key FROM intake ORDER BY seq LIMIT 1)")
        database.commit()
    said = await replay(hospital, hospital.bridge.config)
    assert "1 events go where they went" in said
    assert "1 could not be looked at: their content is destroyed" in said


async def test_oncall_knows_of_a_shift_that_was_taken(hospital: Hospital, staff: Staff, evening: str) -> None:
    noon = ("--at", "2026-11-24 12:00")
    assert "Cardiology: Dr. Ada until" in await hospital.bridge.command("oncall", *noon)
    await asked(staff["ben"], evening, "take", "Dr. Ben has Cardiology until")
    assert "Cardiology: Dr. Ben" in await hospital.bridge.command("oncall", *noon)


async def test_the_calendar_shows_a_shift_that_was_taken(
    hospital: Hospital, evening: str, tmp_path: Path
) -> None:
    picture = tmp_path / "calendar.svg"
    await hospital.bridge.command("calendar", "--at", "2026-11-24", "--days", "3", "--output", str(picture))
    assert "Dr. Ben, Tue 24 Nov 09:0" in picture.read_text()


async def test_a_page_whose_content_is_destroyed_keeps_no_other_from_climbing(
    hospital: Hospital, staff: Staff, evening: str
) -> None:
    ben = staff["ben"]
    page = await ben.message("a quiet question")
    hospital.travel(at("2026-11-25 05:30"))
    await replies(ben, page, ": please accept")
