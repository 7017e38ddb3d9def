"""The bot's one device and its identity: the same over restarts and after a loss, and always to be reached."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician, Message
from testbed.element import Element
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.traces import everything_in, traces
from testbed.wards import Ward, ward_config

WARDS = tuple(
    Ward(f"post-{number}", (f"hal{number}", f"ida{number}"), f"+1555010040{number}") for number in range(6)
)


@pytest.fixture(scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("identity")
    staff = ("operator", *(person for ward in WARDS for person in ward.people))
    config = ward_config(directory / "config", WARDS, nightbell={"logging": {"level": "debug"}})
    async with Hospital(directory, config=config, staff=staff) as opened:
        yield opened


@pytest.fixture(scope="module")
def unused_wards() -> list[Ward]:
    return list(reversed(WARDS))


async def keys_of_the_bot(client: Clinician, bot: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its devices, and its master key, as every client may ask for them."""
    _, answer = await client.request("POST", "/keys/query", {"device_keys": {bot: []}})
    return answer["device_keys"][bot], answer["master_keys"][bot]["keys"]


async def read_without_a_shield(hospital: Hospital, element: Element, ward: Ward, text: str) -> None:
    await hospital.text(text, to=ward.number)
    message = await element.message(text)
    assert (message.shield, message.encrypted, message.sender) == ("none", True, hospital.bot)
    assert not await element.identity_changed(hospital.bot)


async def test_over_three_restarts_it_is_one_device_of_one_identity(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    watcher, element = await shift.nio(ward.people[0]), await shift.element(ward.people[1])
    await element.entrusted()
    await read_without_a_shield(hospital, element, ward, "before any restart")
    before = await keys_of_the_bot(watcher, hospital.bot)
    for number in range(3):
        await hospital.bridge.stop()
        await hospital.bridge.start()
        await hospital.bridge.until_bell_ready()
        await read_without_a_shield(hospital, element, ward, f"after restart {number}")
        assert await keys_of_the_bot(watcher, hospital.bot) == before
    assert len(before[0]) == 1


async def claimed(client: Clinician, bot: str, times: int) -> list[dict[str, Any]]:
    """One-time keys of the bot's device, each claimed as somebody does who would write to it."""
    [device], _ = await keys_of_the_bot(client, bot)
    keys = []
    for _ in range(times):
        wanted = {bot: {device: "signed_curve25519"}}
        _, answer = await client.request("POST", "/keys/claim", {"one_time_keys": wanted})
        keys += answer["one_time_keys"][bot][device].values()
    return keys


def fallbacks(keys: list[dict[str, Any]]) -> set[str]:
    return {key["key"] for key in keys if key.get("fallback")}


async def test_every_claim_of_a_one_time_key_is_answered_and_what_was_used_is_replaced(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    client = await shift.nio(ward.people[0])
    # So many that the bridge can't keep up.
    await hospital.bridge.stop()
    first = await claimed(client, hospital.bot, 55)
    assert len(first) == 55
    assert len(fallbacks(first)) == 1
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()

    await hospital.bridge.stop()
    second = await claimed(client, hospital.bot, 55)
    assert len({key["key"] for key in first + second}) == 102
    assert len(fallbacks(second)) == 1
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()


async def test_counts_that_are_long_past_publish_no_more_keys_than_are_wanted(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    client = await shift.nio(ward.people[0])
    await hospital.bridge.stop()
    with closing(sqlite3.connect(hospital.bridge.directory / "nightbell.db")) as database:
        stale = json.dumps({"one_time": 0, "fallback_used": False})
        rows = [("key_counts", stale)] * 5
        database.executemany("INSERT INTO device_message (kind, content) VALUES (?, ?)", rows)
        database.commit()
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    await hospital.bridge.stop()
    keys = await claimed(client, hospital.bot, 55)
    assert len({key["key"] for key in keys} - fallbacks(keys)) == 50
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()


async def test_a_burst_of_new_devices_is_understood_to_the_last(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    devices = [await shift.nio(ward.people[0], f"device-{number}") for number in range(8)]
    first = devices[0]
    await first.entrusted()
    await hospital.text("who is there?", to=ward.number)
    page = await first.message("who is there?")
    said = {await device.say(page.room_id, "oncall") for device in devices}
    await first.wait_for(lambda: {answered(message) for message in first.messages} >= said)


def answered(message: Message) -> str:
    """The event that a message answers."""
    relation = message.content.get("m.relates_to", {})
    return str(relation.get("m.in_reply_to", {}).get("event_id"))


async def test_an_identity_is_made_once(hospital: Hospital) -> None:
    with pytest.raises(CommandFailedError, match="already has an identity"):
        await hospital.bridge.command("identity", "create")


async def test_a_wrong_recovery_key_is_refused_with_what_to_do(hospital: Hospital) -> None:
    key = hospital.bridge.recovery_key.read_text().strip()
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    for given in (wrong, "", "no key at all"):
        with pytest.raises(CommandFailedError, match="does not open the bot's identity"):
            await hospital.bridge.command("identity", "recover", given=given.encode())


async def test_a_lost_database_is_recovered_to_the_same_identity_and_the_same_rooms(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    watcher, element = await shift.nio(ward.people[0]), await shift.element(ward.people[1])
    await element.entrusted()
    await read_without_a_shield(hospital, element, ward, "before the loss")
    rooms = await element.joined_rooms()
    devices, master = await keys_of_the_bot(watcher, hospital.bot)
    await hospital.bridge.stop()
    for file in hospital.bridge.directory.glob("nightbell*.db*"):
        file.unlink()

    with pytest.raises(CommandFailedError, match="nightbell identity recover"):
        await hospital.bridge.command("run")
    with pytest.raises(CommandFailedError, match="nightbell identity recover"):
        await hospital.bridge.command("identity", "create")
    key_file = str(hospital.bridge.recovery_key)
    await hospital.bridge.command("identity", "recover", "--recovery-key-file", key_file)
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()

    await element.meet(hospital.bot)
    await read_without_a_shield(hospital, element, ward, "after the loss")
    assert await element.joined_rooms() == rooms
    devices_now, master_now = await keys_of_the_bot(watcher, hospital.bot)
    assert master_now == master
    assert len(devices_now) == 1
    assert devices_now.keys() != devices.keys()


async def test_the_recovery_key_is_nowhere_but_in_its_file(hospital: Hospital) -> None:
    key = hospital.bridge.recovery_key.read_text().strip()
    places = everything_in(hospital.directory)
    assert traces([key, key.replace(" ", "")], {"its file": places.pop(str(hospital.bridge.recovery_key))})
    assert traces([key, key.replace(" ", "")], places) == []
