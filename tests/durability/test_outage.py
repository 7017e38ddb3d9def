"""While the homeserver is away intake goes on; when it is back, everything arrives, in order."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from testbed.hospital import Hospital
from testbed.proxy import Passed, Proxy, Refusal
from testbed.shift import Shift
from tests.durability.bursts import Burst, messages, quiet
from tests.durability.conftest import BRAIN, HEART


async def bursts(hospital: Hospital, shift: Shift, size: int) -> tuple[Burst, Burst]:
    """One for each of two rooms."""
    heart = Burst(hospital, await shift.nio("okafor"), size, HEART.number)
    brain = Burst(hospital, await shift.nio("singh"), size, BRAIN.number)
    return heart, brain


async def arrived_in_order(*sent: Burst) -> None:
    for burst in sent:
        await burst.arrive()
    await quiet(sent[0].hospital)
    for burst in sent:
        assert burst.seen == burst.texts
        assert len(messages(burst.stored)) == burst.size


async def test_texts_are_accepted_while_the_homeserver_is_away_and_arrive_in_order(
    hospital: Hospital, shift: Shift
) -> None:
    heart, brain = await bursts(hospital, shift, 30)
    await hospital.synapse.kill()
    await asyncio.gather(heart.send(), brain.send())
    await hospital.synapse.start()
    await arrived_in_order(heart, brain)


async def test_texts_arrive_in_order_though_the_homeserver_dies_again_and_again_in_a_burst(
    hospital: Hospital, shift: Shift
) -> None:
    heart, brain = await bursts(hospital, shift, 50)
    sending = asyncio.gather(heart.send(), brain.send())
    for _ in range(3):
        seen = len(heart.seen)
        await heart.reader.wait_for(lambda seen=seen: len(heart.seen) > seen + 5, 60)  # type: ignore[misc]
        await hospital.synapse.kill()
        await hospital.synapse.start()
    await sending
    await arrived_in_order(heart, brain)


async def test_a_bridge_that_starts_without_its_homeserver_takes_events_and_delivers_them_later(
    hospital: Hospital, shift: Shift
) -> None:
    heart, brain = await bursts(hospital, shift, 10)
    await hospital.bridge.stop()
    await hospital.synapse.kill()
    await hospital.bridge.start()
    await heart.send()
    await hospital.bridge.kill()
    await hospital.bridge.start()
    await brain.send()
    await hospital.synapse.start()
    await arrived_in_order(heart, brain)


async def test_a_homeserver_that_does_not_know_the_bridge_for_a_while_costs_no_page(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    heart, _ = await bursts(hospital, shift, 5)

    async def unknown(_request: Passed) -> Refusal:
        return Refusal(401, "M_UNKNOWN_TOKEN")

    async def let_in(_request: Passed) -> None:
        return None

    proxy.before = unknown
    await heart.send()
    await hospital.bridge.kill()
    await hospital.bridge.start()
    proxy.before = let_in
    await arrived_in_order(heart)


async def test_a_proxy_that_answers_for_the_homeserver_costs_no_page(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    heart, _ = await bursts(hospital, shift, 5)
    turned_away: Counter[str] = Counter()

    async def wrong_way(request: Passed) -> Refusal | None:
        if not request.is_send or turned_away[request.path] == 2:
            return None
        turned_away[request.path] += 1
        return Refusal(404)

    proxy.before = wrong_way
    await heart.send()
    await arrived_in_order(heart)


@pytest.mark.slow
async def test_a_homeserver_that_is_away_for_a_minute_is_missed_by_nobody(
    hospital: Hospital, shift: Shift
) -> None:
    heart, brain = await bursts(hospital, shift, 200)
    await hospital.synapse.stop()
    outage = asyncio.create_task(asyncio.sleep(60))
    await asyncio.gather(heart.send(), brain.send())
    await outage
    await hospital.synapse.start()
    await arrived_in_order(heart, brain)
