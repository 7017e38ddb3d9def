"""From a patient's text to the clinician who has it."""

import asyncio
from typing import Any

from testbed.clinician import Clinician, Message
from testbed.element import Element, Event
from testbed.hospital import Hospital
from tests.thread.conftest import HURRIED_LINE, PATIENT_LINE

NAMES = {"@okafor:nightbell.test": "Dr. Ada Okafor", "@lindqvist:nightbell.test": "Dr. Nils Lindqvist"}


def mentioned(message: Message | Event) -> list[str]:
    return list(message.content.get("m.mentions", {}).get("user_ids", []))


async def until_shown(client: Clinician, page: Message, text: str) -> Message:
    """Wait until the page's message says so."""
    return await client.wait_for(
        lambda: next((m for m in client.messages if m.event_id == page.event_id and text in m.body), None)
    )


def nudges(client: Clinician, page: Message) -> list[Message]:
    """The further notifications of a page, in order; its history in the thread is none."""
    return [
        m for m in client.messages if "please accept" in m.body and relation(m) == reply_to(page.event_id)
    ]


def relation(message: Message | Event) -> dict[str, Any]:
    return dict(message.content.get("m.relates_to", {}))


def reply_to(event: str) -> dict[str, Any]:
    return {"m.in_reply_to": {"event_id": event}}


async def test_a_text_is_read_by_the_cardiologists_in_their_room(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    answer = await hospital.text("Chest pain since noon, äöü 😀", sender="+15550009876")
    assert answer.accepted
    message = await okafor.message("Chest pain since noon, äöü 😀")
    assert okafor.client.rooms[message.room_id].name == "Cardiology on call"
    assert message.sender == hospital.bot
    assert "+1 555-000-9876" in message.body
    shown = await lindqvist.message("Chest pain since noon, äöü 😀")
    assert (shown.event_id, shown.encrypted) == (message.event_id, True)


async def test_element_in_signed_only_mode_shows_no_shield(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Is there a shield?")
    page = await lindqvist.message("Is there a shield?")
    await okafor.message("Is there a shield?")
    await okafor.react(page.event_id, "✅")
    edited = await lindqvist.wait_for(
        lambda: next((m for m in lindqvist.messages if "Is there a shield?" in m.body and m.edited), None)
    )
    assert (page.shield, page.shield_reason, edited.shield) == ("none", None, "none")
    ours = [event for event in lindqvist.events.values() if event.sender == hospital.bot and event.encrypted]
    assert {(event.shield, event.failure) for event in ours} == {("none", None)}


async def test_a_tap_for_accepting_stands_under_the_page(hospital: Hospital, okafor: Clinician) -> None:
    await hospital.text("Where do I tap?")
    page = await okafor.message("Where do I tap?")
    seed = (page.event_id, "✅", hospital.bot)
    await okafor.wait_for(lambda: seed in [(r.target, r.key, r.sender) for r in okafor.reactions])


async def test_one_tap_accepts_and_the_ladder_climbs_no_further(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Who has this one?", to=HURRIED_LINE)
    page = await okafor.message("Who has this one?")
    await okafor.react(page.event_id, "✅")
    shown = await until_shown(okafor, page, "Accepted by Dr. Ada Okafor at ")
    assert mentioned(shown) == []
    before = nudges(okafor, page)
    await asyncio.sleep(2.5)
    assert nudges(okafor, page) == before


async def test_the_word_accept_in_an_encrypted_reply_of_elements_is_understood(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Who answers in words?")
    page = await okafor.message("Who answers in words?")
    await lindqvist.message("Who answers in words?")
    await lindqvist.say(page.room_id, "Accept", in_reply_to=page.event_id)
    await until_shown(okafor, page, "Accepted by Dr. Nils Lindqvist at ")


async def test_a_reaction_of_elements_is_understood(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Who taps in Element?")
    page = await okafor.message("Who taps in Element?")
    await lindqvist.message("Who taps in Element?")
    await lindqvist.react(page.event_id, "✅")
    await until_shown(okafor, page, "Accepted by Dr. Nils Lindqvist at ")


async def test_a_second_person_who_accepts_is_told_who_has_it(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Who is quicker?")
    page = await okafor.message("Who is quicker?")
    await okafor.react(page.event_id, "✅")
    await until_shown(okafor, page, "Accepted by Dr. Ada Okafor")
    said = await lindqvist.say(page.room_id, "accept", in_reply_to=page.event_id)
    answer = await lindqvist.wait_for(
        lambda: next((m for m in lindqvist.messages if relation(m) == reply_to(said)), None)
    )
    assert answer.body.startswith("Accepted by Dr. Ada Okafor at ")
    assert mentioned(answer) == [lindqvist.user_id]
    assert (answer.content["msgtype"], answer.shield) == ("m.notice", "none")


async def test_an_urgent_page_mentions_whoever_is_on_call(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Who is called?")
    page = await okafor.message("Who is called?")
    [on_call] = mentioned(page)
    assert f"notified {NAMES[on_call]}" in page.body
    assert page.content["msgtype"] == "m.text"


async def test_a_routine_page_is_a_notice_and_mentions_nobody(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    await hospital.text("Nothing that could not wait", to=PATIENT_LINE)
    page = await okafor.message("Nothing that could not wait")
    assert (page.content["msgtype"], mentioned(page)) == ("m.notice", [])


async def test_a_page_that_nobody_accepts_climbs_to_the_next_person_and_then_to_operations(
    hospital: Hospital, okafor: Clinician, lindqvist: Element, operator: Clinician
) -> None:
    await hospital.text("Nobody takes this", to=HURRIED_LINE)
    page = await okafor.message("Nobody takes this")
    await operator.message("Cardiology on call: a page is not accepted")
    await okafor.wait_for(lambda: len(nudges(okafor, page)) == 2)
    first, second = nudges(okafor, page)
    [on_call] = mentioned(page)
    [other] = NAMES.keys() - {on_call}
    assert (mentioned(first), mentioned(second)) == ([on_call], [other])
    assert f"{NAMES[other]}: please accept" in second.body
    assert "Nobody takes this" not in first.body + second.body
    shown = await until_shown(okafor, page, NAMES[other])
    assert shown.edits


async def test_another_systems_event_becomes_a_page_like_a_text(
    hospital: Hospital, okafor: Clinician, lindqvist: Element
) -> None:
    event: dict[str, Any] = {
        "kind": "voicemail",
        "body": "Please call back about the pacemaker",
        "caller": {"number": "+1 555 000 4455", "name": "Mrs. Jones"},
        "recipient": "cardiology",
    }
    assert (await hospital.event(event)).accepted
    page = await okafor.message("about the pacemaker")
    assert "Voicemail" in page.body
    assert "Mrs. Jones +1 555-000-4455" in page.body
    await okafor.react(page.event_id, "✅")
    await until_shown(okafor, page, "Accepted by Dr. Ada Okafor at ")
    assert (await lindqvist.message("about the pacemaker")).shield == "none"


async def test_a_text_to_a_number_that_nobody_knows_goes_to_the_fallback(
    hospital: Hospital, moreau: Clinician
) -> None:
    await hospital.text("Wrong number?", to="+15557770000")
    page = await moreau.message("Wrong number?")
    assert moreau.client.rooms[page.room_id].name == "Switchboard"
