"""The same provider id again: the same answer, and no second page."""

from __future__ import annotations

import asyncio
import json

from testbed.callcenter import Answer, Sms
from testbed.hospital import Hospital
from testbed.shift import Shift
from tests.durability.bursts import Burst, messages, quiet
from tests.durability.conftest import HEART

EVENT = {"kind": "page", "body": "", "called": HEART.number}


async def the_only_message(burst: Burst) -> None:
    """Send one more text, and see that nothing but the burst's one message came before it."""
    last = Burst(burst.hospital, burst.reader, 1, HEART.number)
    await burst.arrive()
    await last.send()
    await last.arrive()
    await quiet(burst.hospital)
    assert burst.seen == burst.texts
    assert len(messages(burst.stored)) == burst.size + 1


async def test_a_text_that_is_sent_again_gets_the_same_answer_and_no_second_page(
    hospital: Hospital, shift: Shift
) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    sms = Sms(burst.texts[0], to=HEART.number, sid=f"SM{burst.mark}")
    answers = [await hospital.bridge.send_sms(hospital.session, sms) for _ in range(3)]
    await hospital.bridge.kill()
    await hospital.bridge.start()
    answers += [await hospital.bridge.send_sms(hospital.session, sms) for _ in range(3)]
    assert len(set(answers)) == 1
    assert answers[0].accepted
    await the_only_message(burst)


async def test_an_event_that_is_sent_again_gets_the_same_answer_and_no_second_page(
    hospital: Hospital, shift: Shift
) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    event = EVENT | {"body": burst.texts[0]}
    answers = [await hospital.event(event, webhook_id=burst.mark) for _ in range(3)]
    assert len(set(answers)) == 1
    assert json.loads(answers[0].body)["status"] == "accepted"
    await the_only_message(burst)


async def test_a_text_that_comes_twenty_times_at_once_is_one_page(hospital: Hospital, shift: Shift) -> None:
    await crowd(hospital, shift)


async def test_a_text_that_comes_twenty_times_at_once_is_one_page_on_postgresql(
    hospital_on_postgres: Hospital,
) -> None:
    async with Shift(hospital_on_postgres) as shift:
        await crowd(hospital_on_postgres, shift)


async def crowd(hospital: Hospital, shift: Shift) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 1, HEART.number)
    sms = Sms(burst.texts[0], to=HEART.number, sid=f"SM{burst.mark}")
    answers = await asyncio.gather(*(hospital.bridge.send_sms(hospital.session, sms) for _ in range(20)))
    assert set(answers) == {Answer(200, answers[0].body)}
    await the_only_message(burst)
