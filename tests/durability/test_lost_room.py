"""A room that an administrator of the homeserver takes away is made anew, and no page goes with it."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.proxy import Passed, Proxy, Refusal
from testbed.shift import Shift
from tests.durability.bursts import Burst, quiet
from tests.durability.conftest import BRAIN, HEART


async def take_away(hospital: Hospital, room: str) -> None:
    """What `delete room` of Synapse's admin API does, and waiting for it."""
    await hospital.synapse.administrate("DELETE", f"/_synapse/admin/v1/rooms/{room}", {"purge": False})


async def until_the_bridge_knows(hospital: Hospital, room: str) -> None:
    """A page that comes before is refused by the homeserver, and shown to operations."""
    async with asyncio.timeout(60):
        while not any(
            "room_lost" in line and room in line for line in hospital.bridge.log_path.read_text().splitlines()
        ):
            await asyncio.sleep(0.05)


def seen(clinician: Clinician, text: str) -> list[str]:
    return [message.room_id for message in clinician.messages if text in message.body]


async def test_a_room_that_is_taken_away_is_made_anew_for_the_next_page(
    hospital: Hospital, shift: Shift
) -> None:
    singh = await shift.nio("singh")
    before, after = (Burst(hospital, singh, 1, BRAIN.number) for _ in range(2))
    await before.send()
    await before.arrive()
    old = seen(singh, before.mark)[0]
    await take_away(hospital, old)
    await until_the_bridge_knows(hospital, old)
    await after.send()
    await after.arrive()
    assert seen(singh, after.mark) != seen(singh, before.mark)


async def test_a_page_that_its_room_refuses_is_shown_to_operations_with_its_words(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    operator, okafor = await shift.nio("operator"), await shift.nio("okafor")
    burst = Burst(hospital, okafor, 1, HEART.number)
    refused: list[str] = []
    await okafor.wait_for(lambda: len(okafor.rooms) == 1)
    (room,) = okafor.rooms

    async def refuse_the_first(request: Passed) -> Refusal | None:
        if request.is_send and quote(room, safe="") in request.path and not refused:
            refused.append(request.path)
            return Refusal(403, "M_FORBIDDEN")
        return None

    proxy.before = refuse_the_first
    await burst.send()
    shown = await operator.message(burst.mark, 60)
    assert "could not be delivered" in shown.body
    await quiet(hospital)
    assert seen(okafor, burst.mark) == []
