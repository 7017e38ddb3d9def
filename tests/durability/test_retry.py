"""A retry is the same message: the same bytes under the same transaction, whatever became of the answer."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

from testbed.hospital import Hospital
from testbed.proxy import Passed, Proxy
from testbed.shift import Shift
from tests.durability.bursts import Burst, messages, quiet
from tests.durability.conftest import HEART


class LostAnswers:
    """Loses the first answers to each send."""

    def __init__(self, proxy: Proxy, times: int) -> None:
        self.tries: defaultdict[str, list[bytes]] = defaultdict(list)
        self._times = times
        proxy.after = self._after

    async def _after(self, request: Passed) -> bool:
        if request.is_send:
            self.tries[request.path].append(request.body)
            return len(self.tries[request.path]) > self._times
        return True


async def test_a_retry_repeats_transaction_and_ciphertext(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 3, HEART.number)
    lost = LostAnswers(proxy, times=2)
    await burst.send()
    await burst.arrive()
    await quiet(hospital)
    tries = [bodies for path, bodies in lost.tries.items() if "m.room.encrypted" in path]
    assert [len(bodies) for bodies in tries] == [3, 3, 3]
    assert [len(set(bodies)) for bodies in tries] == [1, 1, 1]
    assert "ciphertext" in json.loads(tries[0][0])
    assert burst.seen == burst.texts
    assert len(messages(burst.stored)) == burst.size


async def test_a_retry_after_a_kill_repeats_them_too(hospital: Hospital, shift: Shift, proxy: Proxy) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    lost = LostAnswers(proxy, times=1)
    await burst.send()
    await burst.arrive()
    await hospital.bridge.kill()
    await hospital.bridge.start()
    await quiet(hospital)
    assert {len(set(bodies)) for bodies in lost.tries.values()} == {1}
    assert len(messages(burst.stored)) == 1


async def test_a_retry_is_the_same_message_though_both_sides_have_died_in_between(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    LostAnswers(proxy, times=1)
    await burst.send()
    await burst.arrive()
    await hospital.bridge.kill()
    await hospital.synapse.kill()
    await hospital.bridge.start()
    await hospital.synapse.start()
    await quiet(hospital)
    assert len(messages(burst.stored)) == 1
    assert burst.seen == burst.texts


async def test_an_accept_that_is_quicker_than_the_answer_to_the_send_counts(
    hospital: Hospital, shift: Shift, proxy: Proxy
) -> None:
    okafor = await shift.nio("okafor")
    taken = asyncio.Event()
    tap = "not yet"

    async def hold(request: Passed) -> bool:
        if request.is_send and "m.room.encrypted" in request.path and not taken.is_set():
            await taken.wait()
            await asyncio.sleep(1)  # for the bridge to make of the tap what it does
            return False
        if request.path.endswith("/sync") and tap.encode() in request.answer:
            taken.set()
        return True

    proxy.after = hold
    burst = Burst(hospital, okafor, 1, HEART.number)
    await burst.send()
    await burst.arrive()
    page = await okafor.message(burst.mark)
    tap = await okafor.react(page.event_id, "✅")
    await okafor.wait_for(
        lambda: [m for m in okafor.messages if burst.mark in m.body and "Accepted by" in m.body], 60
    )
