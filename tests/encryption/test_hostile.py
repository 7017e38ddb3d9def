"""One member's nonsense, sent to the bot's device or published as their own, stops nobody else's keys."""

import json
from typing import Any

from mautrix.crypto import OlmAccount
from mautrix.types import UserID

from testbed.clinician import Clinician
from testbed.hospital import Hospital, password
from testbed.identity import Identity, canonical
from testbed.shift import Shift
from testbed.wards import Ward


async def bots_device(client: Clinician, bot: str) -> tuple[str, str]:
    """The id and the Curve25519 key of the bot's device."""
    _, answer = await client.request("POST", "/keys/query", {"device_keys": {bot: []}})
    [(device, keys)] = answer["device_keys"][bot].items()
    return device, keys["keys"][f"curve25519:{device}"]


async def to_the_bots_device(client: Clinician, bot: str, kind: str, contents: list[dict[str, Any]]) -> None:
    device, _ = await bots_device(client, bot)
    for number, content in enumerate(contents):
        path = f"/sendToDevice/{kind}/{client.device_id}-{kind}-{number}"
        status, answer = await client.request("PUT", path, {"messages": {bot: {device: content}}})
        assert status == 200, answer


async def is_served(hospital: Hospital, client: Clinician, ward: Ward, text: str) -> None:
    """Gets a page and is understood, in a session made only now."""
    await client.entrusted()
    await hospital.text(text, to=ward.number)
    page = await client.message(text)
    await client.say(page.room_id, "accept", in_reply_to=page.event_id)
    await client.wait_for(lambda: any(text in m.body and "Accepted by" in m.body for m in client.messages))


async def test_what_can_not_be_decrypted_keeps_no_key_waiting(
    hospital: Hospital, shift: Shift, unused_wards: list[Ward]
) -> None:
    ward, other = unused_wards.pop(), unused_wards.pop()
    hostile = await shift.nio(other.people[0])
    _, key = await bots_device(hostile, hospital.bot)
    olm = "m.olm.v1.curve25519-aes-sha2"
    bodies: list[Any] = [{}, {key: 5}, {key: {"type": 0, "body": "AwogAA"}}, {key: {"type": 1, "body": ""}}]
    bodies += [{key: {"type": "x", "body": ["x"]}}, {key: {"type": 7, "body": "AAAA"}}, [], "x"]
    contents: list[dict[str, Any]] = [{}, {"algorithm": 5}, {"algorithm": olm}, {"algorithm": "m.megolm.v1"}]
    for sender_key in ("x", 5, ["x"], "\0"):
        contents += [{"algorithm": olm, "sender_key": sender_key, "ciphertext": body} for body in bodies]
    await to_the_bots_device(hostile, hospital.bot, "m.room.encrypted", contents)
    for kind in ("m.room_key_request", "m.room_key", "m.forwarded_room_key", "m.dummy", "org.example.x"):
        await to_the_bots_device(hostile, hospital.bot, kind, [{}, {"action": 5}, {"body": []}])
    await is_served(hospital, await shift.nio(ward.people[0]), ward, "after the nonsense")


KEYS: list[dict[str, Any]] = [
    {"keys": {"nonsense": "x"}},
    {"keys": {}},
    {"algorithms": ["m.olm.v9", "m.megolm.v9"]},
    {"algorithms": []},
    {"signatures": {}},
    {"signatures": {"{user}": {"ed25519:{device}": "x"}}},
    {"signatures": {"{user}": {"nonsense": "x"}}},
]


async def test_what_one_member_publishes_as_a_device_hides_no_other(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann, ben = ward.people
    await (await shift.nio(ann)).entrusted()
    for number, changes in enumerate(KEYS):
        hostile = await shift.nio(ben, f"device-{number}", signed=False)
        _, answer = await hostile.request("POST", "/keys/query", {"device_keys": {hostile.user_id: []}})
        keys = answer["device_keys"][hostile.user_id][hostile.device_id]
        keys.pop("unsigned", None)
        text = json.dumps(changes).replace("{device}", hostile.device_id).replace("{user}", hostile.user_id)
        await hostile.request("POST", "/keys/upload", {"device_keys": {**keys, **json.loads(text)}})
    await is_served(hospital, await shift.nio(ann, "tablet"), ward, "among the nonsense")


async def test_a_one_time_key_that_is_none_keeps_nobody_else_from_reading(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann, ben = ward.people
    phone, _ = await shift.nio(ann), await shift.nio(ben)
    await phone.entrusted()
    user, known = hospital.user_id(ben), phone.sessions
    identifier = {"type": "m.id.user", "user": user}
    login = {"type": "m.login.password", "identifier": identifier, "password": password(ben)}
    _, session = await phone.request("POST", "/login", login)
    account, device = OlmAccount(), session["device_id"]
    identity = Identity.load(hospital.directory / "clients" / f"{ben}-phone" / "identity.json")
    signer = {user: {f"ed25519:{device}": ""}}

    def signed(key: dict[str, Any]) -> dict[str, Any]:
        signer[user][f"ed25519:{device}"] = account.sign(canonical(key).decode())
        return {**key, "signatures": json.loads(json.dumps(signer))}

    nonsense: list[Any] = ["x", "", "AAAA", "A" * 42]
    body = {
        "device_keys": identity.sign_device(user, account.get_device_keys(UserID(user), device).serialize()),
        "one_time_keys": {f"signed_curve25519:A{n}": signed({"key": key}) for n, key in enumerate(nonsense)},
        "fallback_keys": {"signed_curve25519:B": signed({"key": "x", "fallback": True})},
    }
    async with hospital.session.post(
        f"{hospital.synapse.base_url}/_matrix/client/v3/keys/upload",
        json=body,
        headers={"Authorization": f"Bearer {session['access_token']}"},
    ) as answer:
        assert answer.status == 200, await answer.text()
    await phone.wait_for(lambda: phone.sessions - known)
    tablet = await shift.nio(ann, "tablet")
    await tablet.entrusted()
    await hospital.text("beside a key that is none", to=ward.number)
    await tablet.message("beside a key that is none")
