"""The crypto store on PostgreSQL, where its tables stand beside the bridge's own."""

from collections.abc import AsyncIterator

import pytest

from testbed.hospital import Hospital
from testbed.postgres import Postgres
from testbed.shift import Shift
from testbed.wards import Ward, ward_config

WARD = Ward("tower", ("jon", "kay"), "+15550100500")


@pytest.fixture(scope="module")
async def hospital(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("postgres")
    url = await postgres.create_database("encryption")
    config = ward_config(directory / "config", [WARD], nightbell={"encryption": {"rotate_after_messages": 3}})
    async with Hospital(
        directory, config=config, staff=("operator", *WARD.people), database_url=url
    ) as opened:
        yield opened


async def test_pages_are_read_and_accepted_over_a_restart_by_one_identity(
    hospital: Hospital, shift: Shift
) -> None:
    element, phone = await shift.element(WARD.people[0]), await shift.nio(WARD.people[1])
    await element.entrusted()
    await phone.entrusted()
    for text in ("before", "and before", "still before"):
        await hospital.text(text, to=WARD.number)
        assert (await element.message(text)).shield == "none"
    await hospital.bridge.stop()
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    await hospital.text("after", to=WARD.number)
    page = await element.message("after")
    assert page.shield == "none"
    assert not await element.identity_changed(hospital.bot)
    await phone.message("after")
    await phone.say(page.room_id, "accept", in_reply_to=page.event_id)
    await phone.wait_for(lambda: any("after" in m.body and "Accepted by" in m.body for m in phone.messages))


async def test_nonsense_keeps_no_key_waiting_there_either(hospital: Hospital, shift: Shift) -> None:
    hostile = await shift.nio("operator")
    _, answer = await hostile.request("POST", "/keys/query", {"device_keys": {hospital.bot: []}})
    [(device, keys)] = answer["device_keys"][hospital.bot].items()
    own_key = keys["keys"][f"curve25519:{device}"]
    for number, sender_key in enumerate(("x", "\0", "x" * 3000, 5, ["x"])):
        content = {
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": sender_key,
            "ciphertext": {own_key: {"type": 0, "body": "AwogAA"}},
        }
        path = f"/sendToDevice/m.room.encrypted/{hostile.device_id}-{number}"
        status, _ = await hostile.request("PUT", path, {"messages": {hospital.bot: {device: content}}})
        assert status == 200
    phone = await shift.nio(WARD.people[1], "tablet")
    await phone.entrusted()
    await hospital.text("who is there?", to=WARD.number)
    page = await phone.message("who is there?")
    await phone.say(page.room_id, "accept", in_reply_to=page.event_id)
    await phone.wait_for(
        lambda: any("who is there?" in m.body and "Accepted by" in m.body for m in phone.messages)
    )
