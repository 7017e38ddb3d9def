"""What other settings than the default do; each test starts the bridge anew with its own."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import closing
from typing import Any

import pytest

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward, ward_config

WARDS = tuple(
    Ward(f"wing-{number}", (f"eve{number}", f"fay{number}", f"gil{number}"), f"+1555010030{number}")
    for number in range(8)
)
Configure = Callable[..., Awaitable[None]]


@pytest.fixture(scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("settings")
    staff = ("operator", *(person for ward in WARDS for person in ward.people))
    config = ward_config(directory / "config", WARDS)
    opened = Hospital(directory, config=config, staff=staff)
    try:
        await opened.open(bridge=False)
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="module")
def unused_wards() -> list[Ward]:
    return list(reversed(WARDS[1:]))


@pytest.fixture
def configure(hospital: Hospital, ward: Ward) -> Configure:
    """Run the bridge with these settings, and with this test's ward and the fallback alone."""

    async def restart(wards: Iterable[Ward] = (ward,), **encryption: Any) -> None:
        await hospital.bridge.stop()
        # Pages of a ward that is not in the files any more ring with the fallback, which is nobody's here.
        ward_config(hospital.bridge.config, (WARDS[0], *wards), nightbell={"encryption": encryption})
        await hospital.bridge.start()
        await hospital.bridge.until_bell_ready()

    return restart


async def sessions_of(hospital: Hospital, client: Clinician, ward: Ward, texts: Iterable[str]) -> list[str]:
    sessions = []
    for text in texts:
        await hospital.text(text, to=ward.number)
        sessions.append(await client.session_of(await client.message(text)))
    return sessions


async def test_first_use_gives_keys_to_a_person_without_an_identity_and_to_no_unsigned_device_of_another(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure(trust="first_use")
    without = await shift.nio(ward.people[0], signed=False)
    await shift.nio(ward.people[1])
    beside = await shift.nio(ward.people[1], "tablet", signed=False)
    await without.entrusted()
    await hospital.text("to people without an identity", to=ward.number)
    message = await without.message("to people without an identity")
    await beside.wait_for(lambda: message.event_id in beside.undecryptable)
    await without.say(message.room_id, "accept", in_reply_to=message.event_id)
    await without.message("Accepted by")


async def test_trust_in_all_gives_keys_to_every_device(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure(trust="all")
    signed = await shift.nio(ward.people[0])
    beside = await shift.nio(ward.people[0], "tablet", signed=False)
    without = await shift.nio(ward.people[1], signed=False)
    for client in (signed, beside, without):
        await client.entrusted()
    await hospital.text("to every device", to=ward.number)
    for client in (signed, beside, without):
        await client.message("to every device")


async def test_a_session_ends_after_as_many_messages_as_configured(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure(rotate_after_messages=3)
    client = await shift.nio(ward.people[0])
    await client.entrusted()
    used = await sessions_of(hospital, client, ward, [f"message {number}" for number in range(7)])
    first, second, third = dict.fromkeys(used)
    assert used == [first] * 3 + [second] * 3 + [third]


async def test_a_session_ends_after_as_long_as_configured(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure(rotate_after="2 s")
    client = await shift.nio(ward.people[0])
    await client.entrusted()
    [before] = await sessions_of(hospital, client, ward, ["early"])
    await asyncio.sleep(2)
    [after] = await sessions_of(hospital, client, ward, ["late"])
    assert after != before


async def test_who_is_no_longer_in_the_config_is_removed_and_gets_nothing_new(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure()
    staying, leaving = await shift.nio(ward.people[0]), await shift.nio(ward.people[1])
    await leaving.entrusted()
    [before] = await sessions_of(hospital, staying, ward, ["to both"])
    await leaving.message("to both")
    [room] = leaving.rooms

    remaining = Ward(ward.name, (ward.people[0], ward.people[2]), ward.number)
    await configure([remaining])
    [after] = await sessions_of(hospital, staying, ward, ["to one"])
    await leaving.wait_for(lambda: room not in leaving.rooms)
    assert after != before
    assert after not in leaving.sessions


async def test_a_device_that_was_deleted_while_the_bridge_was_down_gets_no_key_of_what_waited(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure()
    phone = await shift.nio(ward.people[0])
    lost = await shift.nio(ward.people[0], "lost")
    await lost.entrusted()
    [before] = await sessions_of(hospital, phone, ward, ["while she has both"])
    await hospital.bridge.stop()
    await lost.logout()
    await hospital.synapse.stop()
    await hospital.bridge.start()
    await hospital.text("while nobody is there", to=ward.number)
    await hospital.synapse.start()
    message = await phone.message("while nobody is there")
    assert await phone.session_of(message) != before


async def test_who_comes_back_is_given_keys_to_the_devices_that_they_have_now(
    hospital: Hospital, shift: Shift, ward: Ward, configure: Configure
) -> None:
    await configure()
    without = Ward(ward.name, (ward.people[0], ward.people[2]), ward.number)
    staying, phone = await shift.nio(ward.people[0]), await shift.nio(ward.people[1])
    lost = await shift.nio(ward.people[1], "lost")
    await lost.entrusted()
    [room] = await phone.wait_for(lambda: phone.rooms)
    await configure([without])
    await phone.wait_for(lambda: room not in phone.rooms)
    device = lost.device_id
    before = sessions_given_to(hospital, device)
    await lost.logout()

    await configure([ward])
    await phone.wait_for(lambda: room in phone.rooms)
    [session] = await sessions_of(hospital, staying, ward, ["welcome back"])
    await phone.message("welcome back")
    assert session not in before
    assert sessions_given_to(hospital, device) == before


def sessions_given_to(hospital: Hospital, device: str) -> set[str]:
    """The sessions of which a device was ever given the key, as the bridge has recorded it."""
    with closing(sqlite3.connect(hospital.bridge.directory / "nightbell.db")) as database:
        query = "SELECT session_id FROM session_recipient WHERE device_id = ? AND outcome = 'shared'"
        return {row[0] for row in database.execute(query, (device,))}
