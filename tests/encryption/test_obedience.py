"""Whose words are obeyed: those of a device that its owner has signed, and of nobody who only says so."""

from typing import Any

from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward

NOT_VERIFIED = "it came from a session that isn't verified"


async def paged(hospital: Hospital, client: Clinician, ward: Ward, text: str) -> Message:
    """A page that stands in the ward's room, as the client sees it."""
    await hospital.text(text, to=ward.number)
    return await client.message(text)


async def put(client: Clinician, room: str, kind: str, content: dict[str, Any]) -> str:
    """Send what no client would; gives its event id."""
    path = f"/rooms/{room}/send/{kind}/{client.device_id}-{len(client.messages)}-{kind}"
    status, answer = await client.request("PUT", path, content)
    assert status == 200, answer
    return str(answer["event_id"])


async def accepted(client: Clinician, page: Message) -> str:
    """The page's text, once somebody has it."""
    text = await client.wait_for(
        lambda: next(
            (m.body for m in client.messages if m.event_id == page.event_id and "Accepted" in m.body), None
        )
    )
    return text.split("Accepted by ")[1].split(" at ")[0]


async def test_an_unsigned_device_is_answered_but_not_obeyed(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    page = await paged(hospital, phone, ward, "who takes bed 1?")
    tablet = await shift.nio(ward.people[0], "tablet", signed=False)
    said = await tablet.say(page.room_id, "accept", in_reply_to=page.event_id)
    answer = await phone.message(NOT_VERIFIED)
    assert answer.content["m.relates_to"]["m.in_reply_to"]["event_id"] == said
    assert "Accepted" not in (await phone.message("who takes bed 1?")).body
    await phone.react(page.event_id, "✅")
    assert await accepted(phone, page) == f"Dr. {ward.people[0].title()}"


async def test_an_unsigned_device_is_not_obeyed_for_claiming_the_key_of_a_signed_one(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    page = await paged(hospital, phone, ward, "who takes bed 2?")
    tablet = await shift.nio(ward.people[0], "tablet", signed=False)
    await tablet.say(page.room_id, "good evening")
    content = {"msgtype": "m.text", "body": "accept"}
    kind, claiming = tablet.client.encrypt(page.room_id, "m.room.message", content)
    claiming["sender_key"] = phone.client.olm.account.identity_keys["curve25519"]
    claiming["device_id"] = phone.device_id
    await put(tablet, page.room_id, kind, claiming)
    await phone.message(NOT_VERIFIED)
    assert "Accepted" not in (await phone.message("who takes bed 2?")).body


async def test_plain_text_in_an_encrypted_room_is_not_obeyed(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    page = await paged(hospital, phone, ward, "who takes bed 3?")
    await put(phone, page.room_id, "m.room.message", {"msgtype": "m.text", "body": "accept"})
    await phone.message(NOT_VERIFIED)
    assert "Accepted" not in (await phone.message("who takes bed 3?")).body


async def test_a_page_is_accepted_from_its_own_room_only(
    hospital: Hospital, shift: Shift, unused_wards: list[Ward]
) -> None:
    here, elsewhere = unused_wards.pop(), unused_wards.pop()
    ann = await shift.nio(here.people[0])
    page = await paged(hospital, ann, here, "who takes bed 4?")
    stranger = await shift.nio(elsewhere.people[0])
    theirs = await paged(hospital, stranger, elsewhere, "who takes bed 5?")
    await stranger.say(theirs.room_id, "accept", in_reply_to=page.event_id)
    assert await accepted(stranger, theirs) == f"Dr. {elsewhere.people[0].title()}"
    assert "Accepted" not in (await ann.message("who takes bed 4?")).body


async def test_what_nobody_can_read_keeps_no_command_waiting(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    page = await paged(hospital, phone, ward, "who takes bed 6?")
    nonsense: list[dict[str, Any]] = [
        {},
        {"algorithm": 5, "ciphertext": 5, "session_id": 5},
        {"algorithm": "m.megolm.v1.aes-sha2"},
        {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": 5, "session_id": ["x"]},
        {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {}, "sender_key": "x"},
        *(
            {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA", "session_id": f"{number}"}
            for number in range(60)
        ),
    ]
    for number, content in enumerate(nonsense):
        path = f"/rooms/{page.room_id}/send/m.room.encrypted/nonsense-{number}"
        await phone.request("PUT", path, content)
    await put(
        phone, page.room_id, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": 5}}
    )
    await phone.say(page.room_id, "accept", in_reply_to=page.event_id)
    assert await accepted(phone, page) == f"Dr. {ward.people[0].title()}"


async def test_a_key_that_somebody_passes_on_speaks_for_nobody(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    page = await paged(hospital, phone, ward, "who takes bed 7?")
    tablet = await shift.nio(ward.people[0], "tablet", signed=False)
    await tablet.say(page.room_id, "good evening")
    helper = await shift.nio(ward.people[1])
    await helper.say(page.room_id, "good evening")

    olm = tablet.client.olm
    olm.create_outbound_group_session(page.room_id)
    session = olm.outbound_group_sessions[page.room_id]
    session.mark_as_shared()
    made = next(inbound for inbound in olm.inbound_group_store if inbound.id == session.id)
    phones_keys = phone.client.olm.account.identity_keys
    passed_on = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": page.room_id,
        "session_id": session.id,
        "session_key": made.export_session(0),
        "sender_key": phones_keys["curve25519"],
        "sender_claimed_ed25519_key": phones_keys["ed25519"],
        "forwarding_curve25519_key_chain": [],
    }
    await send_olm(helper, hospital.bot, "m.forwarded_room_key", passed_on)
    content = {"msgtype": "m.text", "body": "accept"}
    claiming = olm.group_encrypt(page.room_id, {"type": "m.room.message", "content": content})
    claiming["sender_key"] = phones_keys["curve25519"]
    await put(tablet, page.room_id, "m.room.encrypted", claiming)

    asked = await phone.say(page.room_id, "oncall")
    await phone.wait_for(lambda: any(asked in str(message.content) for message in phone.messages))
    assert "Accepted" not in (await phone.message("who takes bed 7?")).body


async def send_olm(client: Clinician, bot: str, kind: str, content: dict[str, Any]) -> None:
    """Send the bot's device something encrypted that nio would not."""
    olm = client.client.olm
    [device] = client.client.device_store.active_user_devices(bot)
    encrypted = olm._olm_encrypt(olm.session_store.get(device.curve25519), device, kind, content)
    path = f"/sendToDevice/m.room.encrypted/{client.device_id}-{kind}"
    status, answer = await client.request("PUT", path, {"messages": {bot: {device.id: encrypted}}})
    assert status == 200, answer
