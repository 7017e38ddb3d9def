"""What was due while the bridge was down, and people who can't be reached."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from testbed.shift import Shift
from tests.scenarios.story import SOON, asked, mentions, people, replies, rows, shows

BEGINS = "2026-11-24 09:00"
STAFF = ("ada", "ben", "eve")
AWAY = ("carol", "gina")  # they have accounts, and no device
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF, *AWAY)}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    members: [ada, ben]
    schedule: {{layers: [{{people: ada}}]}}
  surgery:
    name: Surgery
    room: {{name: Surgery}}
    members: [carol, ben]
    schedule: {{layers: [{{people: carol}}]}}
  radiology:
    name: Radiology
    room: {{name: Radiology}}
    members: [eve, ben]
    schedule: {{layers: [{{people: eve}}]}}
  paediatrics:
    name: Paediatrics
    room: {{name: Paediatrics}}
    members: [gina]
    schedule: {{layers: [{{people: gina}}]}}
"""
ROUTING = """
defaults: {priority: routine, ladder: hourly, template: standard, retention: standard}
rules:
  - {when: {words: emergency}, then: {role: cardiology, priority: stat}}
  - {when: {words: pressing}, then: {role: cardiology, priority: urgent}}
  - {when: {words: surgeon}, then: {role: surgery, priority: urgent}}
  - {when: {words: child}, then: {role: paediatrics, priority: urgent}}
  - {when: {words: x-ray}, then: {role: radiology, priority: urgent}}
fallback: {role: cardiology}
ladders:
  hourly: {steps: [{after: 1 h, notify: next}, {after: 10 h, notify: again}, {after: 9 h, notify: operations}]}
"""


async def paged(hospital: Hospital, client: Clinician, words: str) -> Message:
    await hospital.text(words, to=LINE)
    return await client.message(words)


async def until_the_bridge_knows_that_nobody_joined_is(hospital: Hospital, user: str) -> None:
    """The homeserver takes a closed account out of its rooms in its own time, and the bridge then reads of it."""
    file = hospital.bridge.directory / "nightbell.db"
    query = "SELECT count(*) FROM member WHERE user_id = ? AND membership = 'join'"
    async with asyncio.timeout(60):
        while True:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                if database.execute(query, (user,)).fetchone() == (0,):
                    break
            await asyncio.sleep(0.2)
    # What it read is in force once the loop that read it has gone on.
    await asyncio.sleep(0.5)


async def test_overdue_steps_come_once_the_urgent_first_and_say_that_they_are_late(
    hospital: Hospital, staff: Staff
) -> None:
    ben = staff["ben"]
    pages = [await paged(hospital, ben, w) for w in ("some question", "a pressing one", "an emergency")]
    await hospital.bridge.stop()
    hospital.travel(timedelta(hours=3))
    await hospital.bridge.start()
    nudges = [await replies(ben, page, "Dr. Ben: please accept", 60) for page in pages]
    for nudge in nudges:
        assert "· this comes 2 h" in nudge.body
    order = sorted(range(3), key=lambda number: ben.messages.index(nudges[number]))
    assert order == [2, 1, 0]
    for page in pages:
        await ben.react(page.event_id, "✅")
        await shows(ben, page, "Accepted by Dr. Ben")
    told = [m for m in ben.messages if "Dr. Ben: please accept" in m.body and "this comes" in m.body]
    in_threads = [m for m in told if m.content["m.relates_to"].get("rel_type") == "m.thread"]
    assert len(told) - len(in_threads) == len(pages)


async def test_a_holder_without_a_trusted_device_is_passed_over_at_once_and_operations_told(
    hospital: Hospital, staff: Staff
) -> None:
    page = await paged(hospital, staff["ben"], "call a surgeon")
    assert "notified Dr. Ben" in page.body
    told = await staff["operator"].message("nobody could be reached on 0 on call", SOON)
    assert "Surgery" in told.body


async def test_a_page_is_not_forwarded_to_somebody_who_cannot_read_it(
    hospital: Hospital, staff: Staff
) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "better for Carol")
    await asked(ada, page.room_id, "forward carol", "Nobody can be reached", in_reply_to=page.event_id)
    await ada.say(page.room_id, "forward surgery", in_reply_to=page.event_id)
    await replies(ada, page, "Dr. Ada forwarded it to Dr. Ben")


async def test_a_page_that_can_be_read_only_after_its_ladder_has_ended_climbs_it_anew(
    hospital: Hospital, staff: Staff
) -> None:
    await hospital.text("a child", to=LINE)
    operator = staff["operator"]
    await operator.wait_for(
        lambda: any("reached on 0" in m.body and "Paediatrics" in m.body for m in operator.messages)
    )
    assert rows(hospital, "SELECT page FROM timer JOIN page ON page = id WHERE role = 'paediatrics'") == []
    async with Shift(hospital) as shift:
        gina = await shift.nio("gina")
        page = await gina.message("a child")
        nudge = await replies(gina, page, "Dr. Gina: please accept")
        assert mentions(nudge) == ["gina"]
        await gina.react(page.event_id, "✅")
        await shows(gina, page, "Accepted by Dr. Gina")


async def test_a_holder_who_has_left_the_room_is_passed_over_at_once(
    hospital: Hospital, staff: Staff
) -> None:
    eve, operator = staff["eve"], staff["operator"]
    # Nothing brings somebody back whose account is closed.
    await eve._post("/account/deactivate", {"erase": False})
    await until_the_bridge_knows_that_nobody_joined_is(hospital, "@eve:nightbell.test")
    page = await paged(hospital, staff["ben"], "an x-ray")
    assert "notified Dr. Ben" in page.body
    told = await operator.wait_for(
        lambda: next(
            (m for m in operator.messages if "reached on 0" in m.body and "Radiology" in m.body), None
        )
    )
    assert "notified Dr. Ben" not in told.body
