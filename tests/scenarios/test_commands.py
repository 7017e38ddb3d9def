"""What clinicians ask of the bridge with one thumb, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from tests.scenarios.story import asked, people, replies, rows, shows

BEGINS = "2026-11-24 09:00"
STAFF = ("ada", "ben", "carol", "dora")
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
ROLES = f"""
{people(*STAFF)}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    members: [ada, ben]
    schedule:
      layers:
        - {{people: [ada, ben], hand_off: {{every: week, from: 2026-11-23 08:00}}}}
  surgery:
    name: Surgery
    room: {{name: Surgery}}
    members: [carol, dora]
    schedule: {{layers: [{{people: carol}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: patient, template: standard, retention: standard}
rules:
  - {when: {words: emergency}, then: {role: cardiology, priority: stat}}
  - {when: {words: stitches}, then: {role: surgery}}
fallback: {role: cardiology}
ladders:
  patient: {steps: [{after: 30 min, notify: next}, {after: 30 min, notify: operations}]}
"""


async def paged(hospital: Hospital, client: Clinician, words: str) -> Message:
    await hospital.text(words, to=LINE)
    return await client.message(words)


async def accepted(client: Clinician, page: Message) -> None:
    await client.react(page.event_id, "✅")
    await shows(client, page, "Accepted by")


async def test_a_second_acceptance_is_answered_with_the_first(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "who comes first?")
    await accepted(ada, page)
    await shows(ben, page, "Accepted by Dr. Ada")
    await ben.react(page.event_id, "✅")
    answer = await ben.message("Accepted by Dr. Ada at 09:00.")
    assert "Accepted by Dr. Ada" in answer.body
    assert "Accepted by Dr. Ada" in (await shows(ben, page, "Accepted")).body


async def test_a_page_is_read_when_a_receipt_of_whom_it_notified_covers_it(
    hospital: Hospital, staff: Staff
) -> None:
    ada, ben = staff["ada"], staff["ben"]
    one = await paged(hospital, ada, "has somebody seen this?")
    other = await paged(hospital, ada, "and this?")
    await ben.message("and this?")
    await ben.read(other.event_id)  # he was not notified
    await ada.read(one.event_id)
    await shows(ben, one, "notified Dr. Ada · read")
    assert "read" not in (await shows(ben, other, "Open since")).body
    hospital.travel(timedelta(seconds=10))
    event = await ben.say(one.room_id, "What is below a page covers it, too")
    await ada.wait_for(lambda: any(m.event_id == event for m in ada.messages))
    await ada.read(event)
    await shows(ada, other, "notified Dr. Ada · read")
    query = "SELECT objects FROM ledger WHERE action = 'read' AND actor = ? ORDER BY seq"
    found = [json.loads(row[0])["event"] for row in rows(hospital, query, ada.user_id)]
    assert found == [one.event_id, event]
    for page in (one, other):
        await accepted(ada, page)


async def test_the_callers_number_is_told_to_the_accepter_only(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "please call me")
    await accepted(ada, page)
    await shows(ben, page, "Accepted by Dr. Ada")
    await asked(ben, page.room_id, "call back", "Accept the page first", in_reply_to=page.event_id)
    await asked(ada, page.room_id, "call back", "+1 555-000-1111", in_reply_to=page.event_id)


async def test_a_page_is_closed_with_its_outcome_in_the_history(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "a question of dosage")
    await asked(ada, page.room_id, "close", "Accept the page first", in_reply_to=page.event_id)
    await accepted(ada, page)
    await ada.say(page.room_id, "close advised 5 mg", in_reply_to=page.event_id)
    await replies(ada, page, "Dr. Ada closed it: advised 5 mg")
    await shows(ada, page, "Closed · accepted by Dr. Ada")


async def test_a_command_in_the_pages_thread_is_about_that_page(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    one = await paged(hospital, ada, "the first of two")
    other = await paged(hospital, ada, "the second of two")
    await ada.say(one.room_id, "accept", thread=one.event_id)
    await shows(ada, one, "Accepted by Dr. Ada")
    assert "Open since" in (await shows(ada, other, "the second of two")).body
    await accepted(ada, other)


async def test_a_word_in_the_room_with_several_pages_asks_which(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    pages = [await paged(hospital, ada, f"{which} in a crowd") for which in ("one", "another")]
    await asked(ada, pages[0].room_id, "accept", "Several pages are waiting")
    for page in pages:
        await accepted(ada, page)


async def test_a_word_in_the_room_takes_the_only_page(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "alone here")
    await ada.say(page.room_id, "Accept")
    await shows(ada, page, "Accepted by Dr. Ada")


async def test_a_page_forwarded_to_a_person_mentions_them(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "better for Ben")
    await ada.say(page.room_id, "forward ben", in_reply_to=page.event_id)
    nudge = await replies(ben, page, "Dr. Ben: please accept")
    assert nudge.content["m.mentions"] == {"user_ids": [ben.user_id]}
    await replies(ben, page, "Dr. Ada forwarded it to Dr. Ben")
    await accepted(ben, page)


async def test_a_page_forwarded_to_a_role_stands_in_its_room(hospital: Hospital, staff: Staff) -> None:
    ada, carol = staff["ada"], staff["carol"]
    page = await paged(hospital, ada, "this needs a surgeon")
    await ada.say(page.room_id, "forward surgery", in_reply_to=page.event_id)
    theirs = await carol.message("this needs a surgeon")
    assert theirs.room_id != page.room_id
    await replies(carol, theirs, "Dr. Carol: please accept")
    await accepted(carol, theirs)
    await shows(ada, page, "Accepted by Dr. Carol")


async def test_a_forward_to_nobody_known_is_answered(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "who is Zoe?")
    await asked(ada, page.room_id, "forward zoe", "I know no role and no person", in_reply_to=page.event_id)
    await accepted(ada, page)


async def test_a_snoozed_page_waits_as_long_as_it_was_told(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "can wait a little")
    hospital.travel(timedelta(minutes=25))
    await ada.say(page.room_id, "snooze 20 min", in_reply_to=page.event_id)
    await replies(ada, page, "Dr. Ada will look in 20 min")
    hospital.travel(timedelta(minutes=19))
    probe = await paged(hospital, ada, "by now the loops have looked")
    await accepted(ada, probe)
    assert "notified Dr. Ada ·" in (await shows(ben, page, "Open")).body
    hospital.travel(timedelta(minutes=1, seconds=2))
    await replies(ben, page, "Dr. Ben: please accept")
    await accepted(ben, page)


async def test_a_stat_page_is_not_snoozed(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "an emergency")
    await asked(ada, page.room_id, "snooze", "A STAT page can't wait", in_reply_to=page.event_id)
    await accepted(ada, page)


async def test_who_has_a_page_can_recall_it(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "not meant for this room")
    await ben.message("not meant for this room")
    await asked(ben, page.room_id, "recall", "Accept the page first", in_reply_to=page.event_id)
    await accepted(ada, page)
    written = await ben.say(page.room_id, "whose is it?", thread=page.event_id)
    await ada.message("whose is it?")
    await asked(ben, page.room_id, "recall", "Accept the page first", in_reply_to=page.event_id)
    await asked(ada, page.room_id, "recall", "It is recalled", in_reply_to=page.event_id)
    await ben.wait_for(lambda: {page.event_id, written} <= ben.redacted)
    query = "SELECT actor, action FROM ledger WHERE action IN ('recalled', 'destroyed') ORDER BY seq"
    assert rows(hospital, query)[-2:] == [(ada.user_id, "recalled"), ("nightbell", "destroyed")]
    sealed = (
        "SELECT intake.state, length(intake.sealed) FROM intake JOIN page ON page.intake = intake.id "
        "JOIN ledger ON ledger.page = page.id WHERE action = 'recalled'"
    )
    assert rows(hospital, sealed) == [("destroyed", 0)]


async def test_what_a_legal_hold_keeps_is_not_recalled_until_it_is_lifted(
    hospital: Hospital, staff: Staff
) -> None:
    ada, ben = staff["ada"], staff["ben"]
    page = await paged(hospital, ada, "somebody will ask for this")
    await accepted(ada, page)
    written = await ben.say(page.room_id, "a note that counts", thread=page.event_id)
    await ada.message("a note that counts")
    [(name,)] = rows(hospital, "SELECT page FROM outbox WHERE event = ?", page.event_id)
    by = ("--by", hospital.user_id("operator"))
    placed = await hospital.bridge.command("hold", "place", "page", name, *by, "--reason", "Case 7")
    await asked(ada, page.room_id, "recall", "A legal hold keeps this", in_reply_to=page.event_id)
    await asked(ben, page.room_id, "recall", "A legal hold keeps this", in_reply_to=written)
    said = await hospital.bridge.command("break-glass", "--page", name, *by, "--reason", "Case 7")
    assert "somebody will ask for this" in said
    await hospital.bridge.command("hold", "lift", placed.split()[-1], *by)
    await asked(ada, page.room_id, "recall", "It is recalled", in_reply_to=page.event_id)
    await ben.wait_for(lambda: {page.event_id, written} <= ben.redacted)


async def test_people_recall_their_own_words_and_nobody_elses(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    room = (await paged(hospital, ada, "words are about this")).room_id
    words = await ben.say(room, "her name is on the list")
    await ada.message("on the list")
    await asked(ada, room, "recall", "your own message", in_reply_to=words)
    assert words not in ada.redacted
    await asked(ben, room, "recall", "It is recalled", in_reply_to=words)
    await ada.wait_for(lambda: words in ada.redacted)


async def test_taking_and_giving_a_shift_changes_whom_pages_go_to(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    room = (await paged(hospital, ada, "before the shift is taken")).room_id
    await ada.say(room, "accept")
    await asked(ben, room, "oncall", "Cardiology: Dr. Ada until Mon 30 Nov 08:00, then Dr. Ben")
    await asked(ben, room, "!give ada", "You don't have it now, so you can't give it.")
    await asked(ben, room, "take", "Dr. Ben has Cardiology until Mon 30 Nov 08:00.")
    await ben.message("Dr. Ben now has Cardiology. Thank you, Dr. Ada.")
    page = await paged(hospital, ben, "after it was taken")
    assert "notified Dr. Ben" in page.body
    await accepted(ben, page)
    await asked(ben, room, "!give ada", "Dr. Ada has Cardiology until Mon 30 Nov 08:00.")
    page = await paged(hospital, ada, "after it was given back")
    assert "notified Dr. Ada" in page.body
    await accepted(ada, page)


async def test_a_shift_is_not_given_to_somebody_of_another_role(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    room = (await ada.message("who comes first?")).room_id
    await asked(ada, room, "!give carol", "Dr. Carol is no member of Cardiology.")


async def test_help_fits_a_phone_screen(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    room = (await ada.message("who comes first?")).room_id
    answer = await asked(ada, room, "help", "Tap a reaction under the page")
    assert len(answer.body.splitlines()) <= 8
    assert max(map(len, answer.body.splitlines())) <= 50


async def test_what_was_not_understood_is_answered_with_help(hospital: Hospital, staff: Staff) -> None:
    ada = staff["ada"]
    page = await paged(hospital, ada, "a strange answer")
    await asked(ada, page.room_id, "!abracadabra", "I didn't understand that.")
    await accepted(ada, page)


async def test_people_talking_in_the_room_are_left_in_peace(hospital: Hospital, staff: Staff) -> None:
    ada, ben = staff["ada"], staff["ben"]
    room = (await ada.message("who comes first?")).room_id
    await ben.say(room, "take care of yourself tonight")
    answer = await asked(ada, room, "oncall", "Cardiology: Dr. Ada")
    later = ada.messages[ada.messages.index(answer) - 2 :]
    assert not [m for m in later if m.sender.startswith("@nightbell") and "take care" in m.body]
    assert "Dr. Ada until" in answer.body
