"""The rooms: private and encrypted from creation, and changed by nobody but the bot."""

from contextlib import suppress
from typing import Any

import nio
import pytest
from ruamel.yaml import YAML

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward

FORBIDDEN: dict[str, dict[str, Any]] = {
    "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 1_000_000},
    "m.room.history_visibility": {"history_visibility": "world_readable"},
    "m.room.join_rules": {"join_rule": "public"},
    "m.room.guest_access": {"guest_access": "can_join"},
    "m.room.power_levels": {"users_default": 100},
    "m.room.server_acl": {"allow": ["*"]},
    "m.room.name": {"name": "Mrs. Smith"},
    "m.room.topic": {"topic": "Mrs. Smith"},
    "m.room.tombstone": {"body": "moved", "replacement_room": "!elsewhere:nightbell.test"},
    "m.room.pinned_events": {"pinned": []},
    "org.example.anything": {},
}


@pytest.fixture(scope="module")
def ward(unused_wards: list[Ward]) -> Ward:
    """The room of all these tests, which leave it as it is."""
    return unused_wards.pop()


async def room_of(client: Clinician) -> str:
    return await client.wait_for(lambda: next(iter(client.rooms), None))


async def as_the_bot(hospital: Hospital, method: str, path: str, body: Any = None, **query: str) -> Any:
    """What the homeserver could do, or knows, that no member can."""
    token = YAML(typ="safe").load(hospital.bridge.registration.read_text())["as_token"]
    async with hospital.session.request(
        method,
        f"{hospital.synapse.base_url}/_matrix/client/v3{path}",
        json=body,
        params={**query, "user_id": hospital.bot},
        headers={"Authorization": f"Bearer {token}"},
    ) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_a_room_is_private_and_encrypted_from_its_first_events(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann = await shift.nio(ward.people[0])
    room = await room_of(ann)
    events = (await ann.client.room_get_state(room)).events
    state = {event["type"]: event["content"] for event in events if event["state_key"] == ""}
    assert state["m.room.encryption"]["algorithm"] == "m.megolm.v1.aes-sha2"
    assert state["m.room.join_rules"]["join_rule"] == "invite"
    assert state["m.room.history_visibility"]["history_visibility"] == "joined"
    assert state["m.room.guest_access"]["guest_access"] == "forbidden"
    assert state["m.room.create"]["m.federate"] is False
    answer = await as_the_bot(hospital, "GET", f"/rooms/{room}/messages", dir="f", limit="20")
    kinds = [event["type"] for event in answer["chunk"]]
    assert kinds.index("m.room.encryption") < kinds.index("m.room.name")
    first_member = kinds.index("m.room.member", kinds.index("m.room.member") + 1)
    assert kinds.index("m.room.encryption") < first_member


async def test_a_rooms_name_is_the_one_in_the_config_and_it_has_no_other_words(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann = await shift.nio(ward.people[0])
    room = await room_of(ann)
    events = (await ann.client.room_get_state(room)).events
    state = {event["type"]: event["content"] for event in events if event["state_key"] == ""}
    assert state["m.room.name"] == {"name": ward.name}
    assert not {"m.room.topic", "m.room.canonical_alias", "m.room.avatar"} & state.keys()


async def test_its_members_are_those_of_the_config(hospital: Hospital, shift: Shift, ward: Ward) -> None:
    ann = await shift.nio(ward.people[0])
    await shift.nio(ward.people[1])
    room = await room_of(ann)
    expected = {hospital.bot, *map(hospital.user_id, ward.people)}
    await ann.wait_for(lambda: set(ann.client.rooms[room].users) == expected)


async def test_a_clinician_can_change_nothing_of_it(hospital: Hospital, shift: Shift, ward: Ward) -> None:
    ann = await shift.nio(ward.people[0])
    room = await room_of(ann)
    for kind, content in FORBIDDEN.items():
        answer = await ann.client.room_put_state(room, kind, content)
        assert isinstance(answer, nio.RoomPutStateError), kind
        assert answer.status_code == "M_FORBIDDEN", kind


async def test_a_clinician_can_neither_invite_nor_remove_anybody(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann = await shift.nio(ward.people[0])
    room = await room_of(ann)
    stranger = hospital.user_id("stranger")
    assert isinstance(await ann.client.room_invite(room, stranger), nio.RoomInviteError)
    assert isinstance(await ann.client.room_kick(room, hospital.bot), nio.RoomKickError)
    assert isinstance(await ann.client.room_ban(room, hospital.user_id(ward.people[1])), nio.RoomBanError)


async def test_whom_the_homeserver_lets_in_is_given_no_key_and_is_put_out_again(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann, intruder = await shift.nio(ward.people[0]), await shift.nio("stranger")
    await ann.entrusted()
    room = await room_of(ann)
    for number in range(3):
        await as_the_bot(hospital, "POST", f"/rooms/{room}/invite", {"user_id": intruder.user_id})
        with suppress(TimeoutError):  # they may be put out before they have joined
            await intruder.wait_for(lambda: room in intruder.rooms, 3)
        await hospital.text(f"not for strangers {number}", to=ward.number)
        await ann.message(f"not for strangers {number}")
        await intruder.wait_for(lambda: room not in intruder.rooms)
    assert room not in intruder.rooms_with_keys


@pytest.mark.parametrize("relation", ["m.replace", "m.in_reply_to"])
async def test_in_the_clear_a_message_relates_to_an_event_id_and_says_no_more(
    hospital: Hospital, shift: Shift, ward: Ward, relation: str
) -> None:
    ann = await shift.nio(ward.people[0])
    await ann.entrusted()
    await hospital.text(f"what the homeserver must not read of {relation}", to=ward.number)
    page = await ann.message(f"what the homeserver must not read of {relation}")
    await ann.react(page.event_id, "✅")
    await ann.say(page.room_id, "no command at all", in_reply_to=page.event_id)
    await ann.message("I didn't understand that")
    await ann.wait_for(lambda: any(m.edits for m in ann.messages))
    _, answer = await ann.request("GET", f"/rooms/{page.room_id}/messages?dir=b&limit=50")
    ours = [event for event in answer["chunk"] if event["sender"] == hospital.bot]
    clear = [event["content"] for event in ours if event["type"] == "m.room.encrypted"]
    fields = {"algorithm", "ciphertext", "session_id", "sender_key", "device_id", "m.relates_to"}
    assert all(content.keys() <= fields for content in clear)
    found = [content["m.relates_to"] for content in clear if relation in str(content.get("m.relates_to"))]
    assert found
    sayable = {"m.replace", "m.thread", "True", *(event["event_id"] for event in answer["chunk"])}
    assert {str(leaf) for related in found for leaf in leaves(related)} <= sayable


def leaves(value: Any) -> list[Any]:
    return (
        [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]
    )
