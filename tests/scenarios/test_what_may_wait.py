"""Bundles, digests, quiet hours, repeated calls, further pages and rooms of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from tests.scenarios.story import SOON, asked, at, mentions, people, replies, rows, shows

BEGINS = "2026-11-24 20:00"
STAFF = ("ada", "ben", "carol")
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF)}
rooms:
  board: {{name: The board, members: [ada, carol]}}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    members: [ada, ben]
    schedule: {{layers: [{{people: ada}}]}}
  quality:
    name: Quality
    room: {{name: Quality}}
    members: [carol]
    schedule: {{layers: [{{people: carol}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: patient, template: standard, retention: standard}
rules:
  - {when: {words: complaint}, then: {role: quality}, continue: true}
  - {when: {words: board}, then: {role: cardiology, room: board}}
  - {when: {words: again, repeats: {at_least: 3, within: 10 min}}, then: {role: cardiology, priority: stat}}
  - {when: {words: bundled}, then: {role: cardiology, bundle: 10 min}}
  - {when: {words: appointment}, then: {role: cardiology, priority: routine, quiet_hours: nights}}
  - {when: {words: bleeding}, then: {role: cardiology, priority: stat, quiet_hours: nights}}
  - {when: {words: report}, then: {role: quality, priority: routine, quiet_hours: daily}}
fallback: {role: cardiology}
quiet_hours:
  nights: {hours: "22:00-07:00"}
  daily: {digest: ["12:00"]}
ladders:
  patient: {steps: [{after: 20 h, notify: next}, {after: 20 h, notify: operations}]}
"""


async def paged(hospital: Hospital, client: Clinician, words: str, sender: str = "+15550001111") -> Message:
    await hospital.text(words, to=LINE, sender=sender)
    return await client.message(words)


async def test_the_same_caller_again_is_the_same_page_with_a_count(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "bundled, the first")
    for words in ("bundled, the second", "bundled, the third"):
        await hospital.text(words, to=LINE)
        await shows(ada, page, words)
    await shows(ada, page, "3 times")
    nudge = await replies(ada, page, "The same caller again, 3 times by now")
    assert mentions(nudge) == ["ada"]
    assert [m.event_id for m in ada.messages if "bundled" in m.body] == [page.event_id]


async def test_another_caller_is_another_page(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "bundled with nobody", "+15550002222")
    assert "times" not in page.body
    assert "+1 555-000-2222" in page.body


async def test_the_third_call_within_ten_minutes_takes_the_rule_for_it(
    hospital: Hospital, staff: Staff
) -> None:
    ada = staff["ada"]
    for count in ("one", "two"):
        page = await paged(hospital, ada, f"again {count}", "+15550003333")
        assert "🟠 Urgent" in page.body
        hospital.travel(timedelta(minutes=4))
    page = await paged(hospital, ada, "again three", "+15550003333")
    assert "🔴 STAT" in page.body


async def test_a_rule_that_continues_adds_its_own_page(hospital: Hospital, staff: Staff) -> None:
    await hospital.text("a complaint about waiting", to=LINE)
    ada, carol = [await staff[name].message("a complaint about waiting") for name in ("ada", "carol")]
    assert ada.room_id != carol.room_id
    await staff["carol"].react(carol.event_id, "✅")
    await shows(staff["carol"], carol, "Accepted by Dr. Carol")
    assert "Open since" in (await shows(staff["ada"], ada, "complaint")).body


async def test_a_rules_own_room_gets_the_page_and_obeys_the_roles_people_only(
    hospital: Hospital, staff: Staff
) -> None:
    ada, carol = staff["ada"], staff["carol"]
    page = await paged(hospital, carol, "for the board")
    assert carol.client.rooms[page.room_id].name == "The board"
    refused = "That is for Cardiology, which you are not a member of."
    await asked(carol, page.room_id, "accept", refused, in_reply_to=page.event_id)
    await ada.say(page.room_id, "accept")
    await shows(carol, page, "Accepted by Dr. Ada")


async def test_quiet_hours_hold_routine_until_they_end_and_never_stat(
    hospital: Hospital, staff: Staff
) -> None:
    ada = staff["ada"]
    hospital.travel(at("2026-11-25 02:00"))
    await hospital.text("an appointment in spring", to=LINE)
    stat = await paged(hospital, ada, "she is bleeding")
    assert "🔴 STAT" in stat.body
    hospital.travel(at("2026-11-25 06:59"))
    await paged(hospital, ada, "the loops have looked at their clocks")
    assert not [m for m in ada.messages if "spring" in m.body]
    hospital.travel(at("2026-11-25 07:00:01"))
    page = await ada.message("an appointment in spring", SOON)
    assert page.content["msgtype"] == "m.notice"
    assert mentions(page) == []


async def test_several_pages_come_as_one_digest_at_its_hour(hospital: Hospital, staff: Staff) -> None:
    carol = staff["carol"]
    hospital.travel(at("2026-11-25 09:00"))
    for number in (1, 2, 3):
        await hospital.text(f"report {number} of the morning", to=LINE, sender=f"+1555000{number}444")
    async with asyncio.timeout(SOON):
        while rows(hospital, "SELECT count(*) FROM page WHERE held_until IS NOT NULL") != [(3,)]:
            await asyncio.sleep(0.1)
    hospital.travel(at("2026-11-25 12:00:01"))
    digest = await carol.message("3 routine pages since the last digest:", SOON)
    for number in (1, 2, 3):
        assert f"report {number} of the morning" in digest.body
    assert digest.content["msgtype"] == "m.notice"
