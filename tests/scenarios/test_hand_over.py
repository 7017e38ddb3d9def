"""Membership that follows the shift, what a hand-over leaves open, and the look at who comes next."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from tests.scenarios.story import SOON, ZONE, at, joined, mentions, people, replies, rows, shows

BEGINS = "2026-11-24 07:00"
STAFF = ("ada", "ben")
AWAY = ("carol",)  # she has an account, and no device
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF, *AWAY)}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology, members: on_duty}}
    members: [ada, ben, carol]
    schedule:
      layers:
        - {{people: [ada, ben, carol], hand_off: {{every: day, from: 2026-11-23 08:00}}}}
  theatre:
    name: Theatre
    room: {{name: Theatre, members: on_duty}}
    members: [ada, ben, carol]
    schedule: {{layers: [{{people: ada}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: patient, template: standard, retention: standard}
rules: [{when: {words: theatre}, then: {role: theatre, ladder: brisk}}]
fallback: {role: cardiology}
ladders:
  brisk: {steps: [{after: 10 min, notify: next}, {after: 10 min, notify: next}, {after: 9 h, notify: operations}]}
  patient: {steps: [{after: 90 h, notify: next}, {after: 90 h, notify: operations}]}
"""


async def paged(hospital: Hospital, client: Clinician, words: str) -> Message:
    await hospital.text(words, to=LINE)
    return await client.message(words)


async def test_before_the_hand_over_only_the_holder_is_in_the_room(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "before the hand-over")
    await joined(ada, page.room_id, {"ada"})
    assert not [m for m in ben.messages if "before the hand-over" in m.body]


async def test_who_takes_over_joins_half_an_hour_before(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    room = (await ada.message("before the hand-over")).room_id
    hospital.travel(at("2026-11-24 07:31"))
    await joined(ada, room, {"ada", "ben"})
    page = await paged(hospital, ben, "while both are here")
    assert "notified Dr. Ada" in page.body
    earlier = await ada.message("before the hand-over")
    assert earlier.event_id not in [m.event_id for m in ben.messages]


async def test_the_hand_over_lists_what_is_open_and_mentions_who_has_it(
    hospital: Hospital, staff: Staff
) -> None:
    ada, ben = staff["ada"], staff["ben"]
    done = await paged(hospital, ada, "done before she goes")
    await ada.react(done.event_id, "✅")
    await shows(ada, done, "Accepted by Dr. Ada")
    await ada.react(done.event_id, "🏁")
    await shows(ada, done, "Closed")
    hospital.travel(at("2026-11-24 08:00:01"))
    told = await ben.message("Dr. Ben now has Cardiology. Thank you, Dr. Ada.", SOON)
    assert "2 open:" in told.body
    assert told.body.count("Open since 07:") == 2
    assert told.content["m.mentions"] == {"user_ids": [ben.user_id]}


async def test_who_went_off_duty_has_left_and_reads_nothing_new(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    room = (await ada.message("before the hand-over")).room_id
    earlier = await ben.session_of(await ben.message("while both are here"))
    await joined(ben, room, {"ben"})
    page = await paged(hospital, ben, "after the hand-over")
    assert await ben.session_of(page) != earlier
    assert await ben.session_of(page) not in ada.sessions
    assert not [m for m in ada.messages if "after the hand-over" in m.body]


async def test_operations_are_warned_half_an_hour_before_somebody_comes_who_cannot_read(
    hospital: Hospital, staff: Staff
) -> None:
    operator = staff["operator"]
    hospital.travel(at("2026-11-25 07:31"))
    await joined(staff["ben"], (await staff["ben"].message("after the hand-over")).room_id, {"ben", "carol"})
    hospital.travel(at("2026-11-25 07:32"))
    warning = await operator.message("Dr. Carol takes over Cardiology within half an hour", SOON)
    assert "without a verified session" in warning.body
    assert not [message for message in operator.messages if "Dr. Ben takes over" in message.body]


async def test_the_ladder_passes_over_a_holder_who_cannot_read_at_once(
    hospital: Hospital, staff: Staff
) -> None:
    operator = staff["operator"]
    hospital.travel(at("2026-11-25 08:00:01"))
    await hospital.text("for Carol, who cannot read", to=LINE)
    told = await operator.message("nobody could be reached on", SOON)
    assert "Cardiology" in told.body


async def test_hand_overs_of_an_outage_are_on_record_at_their_own_times(
    hospital: Hospital, staff: Staff
) -> None:
    await hospital.bridge.stop()
    hospital.travel(at("2026-11-27 12:00"))
    await hospital.bridge.start()
    wanted = [
        (microseconds("2026-11-24 08:00"), "ben"),
        (microseconds("2026-11-25 08:00"), "carol"),
        (microseconds("2026-11-26 08:00"), "ada"),
        (microseconds("2026-11-27 08:00"), "ben"),
    ]
    query = "SELECT start_at, holder FROM held WHERE role = 'cardiology' ORDER BY id"
    async with asyncio.timeout(SOON):
        while len(found := rows(hospital, query)) <= len(wanted):
            await asyncio.sleep(0.1)
    assert found[1:] == wanted


async def test_who_takes_over_and_was_not_seen_for_a_day_is_asked_for_a_sign_and_operations_are_told(
    hospital: Hospital, staff: Staff
) -> None:
    await hospital.synapse.make_admin(hospital.bot)
    day = max(at("2026-11-29 07:31"), datetime.now(UTC).astimezone(ZONE) + timedelta(days=2))
    day = day.replace(hour=7, minute=31, second=0)
    while (day.date() - date(2026, 11, 23)).days % 3 != 0:  # to the days that are Dr. Ada's
        day += timedelta(days=1)
    hospital.travel(day)
    ada = staff["ada"]
    room = (await ada.message("before the hand-over")).room_id
    query = "SELECT 1 FROM member WHERE room_id = ? AND user_id = ? AND membership = 'join'"
    async with asyncio.timeout(SOON):
        while not rows(hospital, query, room, ada.user_id):
            await asyncio.sleep(0.1)
    hospital.travel(day + timedelta(minutes=1))
    told = await staff["operator"].message(
        "Dr. Ada takes over Cardiology within half an hour, and none", SOON
    )
    assert "has been seen for" in told.body
    asked = await ada.message("you take over Cardiology within half an hour", SOON)
    assert mentions(asked) == ["ada"]
    assert not [m for m in staff["operator"].messages if "Dr. Ben takes over" in m.body]


async def test_a_ladder_asks_the_next_into_a_room_that_follows_the_shift(
    hospital: Hospital, staff: Staff
) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "to the theatre")
    await joined(ada, page.room_id, {"ada"})
    hospital.travel(timedelta(minutes=10, seconds=1))
    await replies(ada, page, "Dr. Ben: please accept")
    theirs = await ben.message("to the theatre", SOON)
    assert (theirs.room_id, mentions(theirs)) == (page.room_id, ["ben"])
    await ben.react(theirs.event_id, "✅")
    for client, message in ((ada, page), (ben, theirs)):
        await shows(client, message, "Accepted by Dr. Ben")


async def test_who_was_asked_in_leaves_when_the_page_is_closed_and_reads_nothing_new(
    hospital: Hospital, staff: Staff
) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await ben.message("to the theatre")
    await joined(ada, page.room_id, {"ada", "ben"})
    await ben.react(page.event_id, "🏁")
    await joined(ada, page.room_id, {"ada"})
    after = await paged(hospital, ada, "another for the theatre")
    assert await ada.session_of(after) not in ben.sessions
    await ada.react(after.event_id, "✅")
    await shows(ada, after, "Accepted by Dr. Ada")


async def test_who_could_not_read_is_not_asked_in(hospital: Hospital, staff: Staff) -> None:
    ada, ben, operator = staff["ada"], staff["ben"], staff["operator"]
    page = await paged(hospital, ada, "nobody is left in the theatre")
    hospital.travel(timedelta(minutes=10, seconds=1))
    await ben.message("nobody is left in the theatre", SOON)
    hospital.travel(timedelta(minutes=10, seconds=1))
    told = await operator.message("nobody could be reached on 2", SOON)
    assert "Theatre" in told.body
    await joined(ada, page.room_id, {"ada", "ben"})


def microseconds(moment: str) -> int:
    return round(at(moment).timestamp() * 1e6)


async def test_the_rooms_name_says_the_role_and_nothing_else(hospital: Hospital, staff: Staff) -> None:
    query = "SELECT json FROM event_json JOIN events USING (event_id) WHERE type = 'm.room.name'"
    file = f"file:{hospital.synapse.database_path}?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=30)) as database:
        names = {json.loads(row[0])["content"]["name"] for row in database.execute(query)}
    assert names == {"Cardiology", "Theatre", "Nightbell operations"}
