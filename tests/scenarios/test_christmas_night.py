"""A STAT page at 02:00 on Christmas: the holiday's roster, the STAT room, a ladder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from tests.scenarios.story import at, mentions, people, replies, shows

BEGINS = "2026-12-25 01:50"
STAFF = ("ada", "ben", "carol", "dora")
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF)}
holidays: {{christmas: {{days: {{12-25: Christmas Day}}}}}}
rooms: {{cardiology-stat: {{name: Cardiology STAT, members: [ada, ben, carol, dora]}}}}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    stat_room: cardiology-stat
    members: [ada, ben, carol]
    backup: dora
    ladder: {{stat: fast, urgent: slow, routine: slow}}
    schedule:
      layers:
        - {{people: ben, only: {{holidays: christmas}}}}
        - {{people: ada}}
  switchboard:
    name: Switchboard
    room: {{name: Switchboard}}
    members: [dora]
    schedule: {{layers: [{{people: dora}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: slow, template: standard, retention: standard}
rules:
  - {when: {words: chest pain}, then: {role: cardiology, priority: stat}}
  - {when: {words: prescription}, then: {role: cardiology}}
fallback: {role: switchboard}
ladders:
  slow: {steps: [{after: 2 h, notify: next}, {after: 2 h, notify: operations}]}
  fast:
    steps:
      - {after: 60s, notify: again}
      - {after: 60s, notify: next}
      - {after: 60s, notify: backup}
      - {after: 60s, role: switchboard}
      - {after: 60s, notify: operations}
"""


async def stat(hospital: Hospital, client: Clinician, words: str) -> Message:
    await hospital.text(f"chest pain, {words}", to=LINE)
    return await client.message(words)


async def test_the_holidays_holder_is_mentioned_in_the_stat_room(hospital: Hospital, staff: Staff) -> None:
    hospital.travel(at("2026-12-25 02:00"))
    ben = staff["ben"]
    page = await stat(hospital, ben, "since midnight")
    assert ben.client.rooms[page.room_id].name == "Cardiology STAT"
    assert mentions(page) == ["ben"]
    assert page.content["msgtype"] == "m.text"
    assert "🔴 STAT" in page.body
    await ben.react(page.event_id, "✅")
    await shows(ben, page, "Accepted by Dr. Ben at 02:0")


async def test_who_declines_is_followed_by_the_next_at_once(hospital: Hospital, staff: Staff) -> None:
    ben, ada = staff["ben"], staff["ada"]
    page = await stat(hospital, ben, "and he declines")
    await ben.react(page.event_id, "❌")
    nudge = await replies(ada, page, "Dr. Ada: please accept")
    assert mentions(nudge) == ["ada"]
    await replies(ada, page, "Dr. Ben declined")
    await ada.react(page.event_id, "✅")
    await shows(ada, page, "Accepted by Dr. Ada")


async def test_an_unread_page_climbs_by_the_ladder_of_its_priority(hospital: Hospital, staff: Staff) -> None:
    dora = staff["dora"]
    operator = staff["operator"]
    page = await stat(hospital, dora, "nobody looks")
    for asked in ("Dr. Ben: please accept", "Dr. Ada: please accept", "Dr. Dora: please accept"):
        hospital.travel(timedelta(seconds=61))
        await replies(dora, page, asked)
    hospital.travel(timedelta(seconds=61))
    await dora.wait_for(
        lambda: any("nobody looks" in m.body and m.room_id != page.room_id for m in dora.messages), 40
    )
    hospital.travel(timedelta(seconds=61))
    told = await operator.message("a page is not accepted", 40)
    assert "notified: " in told.body
    assert "Dr. Ben" in told.body
    await dora.react(page.event_id, "✅")
    await shows(dora, page, "Accepted by Dr. Dora")


async def test_an_urgent_page_of_the_same_night_goes_to_the_roles_own_room(
    hospital: Hospital, staff: Staff
) -> None:
    ben = staff["ben"]
    await hospital.text("a prescription, please", to=LINE)
    page = await ben.message("a prescription, please")
    assert ben.client.rooms[page.room_id].name == "Cardiology"
    await ben.react(page.event_id, "✅")
    await shows(ben, page, "Accepted by Dr. Ben")


async def test_a_stat_page_stays_in_its_room_when_it_is_forwarded_to_a_colleague(
    hospital: Hospital, staff: Staff
) -> None:
    ben, ada = staff["ben"], staff["ada"]
    page = await stat(hospital, ben, "for a colleague")
    await ben.say(page.room_id, "forward ada", in_reply_to=page.event_id)
    await replies(ada, page, "Dr. Ada: please accept")
    hospital.travel(timedelta(seconds=61))
    await ada.wait_for(lambda: len(calls(ada, page, "Dr. Ada: please accept")) > 1, 40)
    await ada.react(page.event_id, "✅")
    await shows(ada, page, "Accepted by Dr. Ada")
    assert {m.room_id for m in ada.messages if "for a colleague" in m.body} == {page.room_id}


def calls(client: Clinician, page: Message, text: str) -> list[Message]:
    """The messages that ring, not their traces in the thread."""
    return [
        m
        for m in client.messages
        if text in m.body and m.content["m.relates_to"] == {"m.in_reply_to": {"event_id": page.event_id}}
    ]
