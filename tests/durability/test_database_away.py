"""A database that takes nothing: sources are told to come again, health says so, and it heals without a restart."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import asyncpg

from testbed.callcenter import Sms, send_sms
from testbed.hospital import Hospital
from testbed.postgres import Postgres
from testbed.shift import Shift
from tests.durability.bursts import Burst, messages, quiet
from tests.durability.conftest import HEART


@contextmanager
def full_disk(hospital: Hospital) -> Iterator[None]:
    """No file of the bridge can grow: not its databases, and not its log."""
    pid = hospital.bridge.pid
    assert pid is not None
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, most))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


async def answer(hospital: Hospital, text: str) -> tuple[int, str | None]:
    """The status and the Retry-After that a text is answered with."""
    seen: list[tuple[int, str | None]] = []

    async def note(_s: object, _c: object, params: aiohttp.TraceRequestEndParams) -> None:
        seen.append((params.response.status, params.response.headers.get("Retry-After")))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(note)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        url = f"{hospital.bridge.base_url}/intake/clinic-sms"
        await send_sms(session, url, Sms(text, to=HEART.number), auth_token=hospital.bridge.twilio_token)
    return seen[0]


async def until_health_is(hospital: Hospital, status: str) -> dict[str, str]:
    async with asyncio.timeout(60):
        while True:
            health = await hospital.bridge.health()
            if health and health["status"] == status:
                parts: dict[str, str] = health["parts"]
                return parts
            await asyncio.sleep(0.1)


async def arrived(burst: Burst) -> None:
    await burst.arrive()
    await quiet(burst.hospital)
    assert burst.seen == burst.texts
    assert len(messages(burst.stored)) == burst.size


async def test_a_full_disk_has_sources_come_again_and_loses_nothing(hospital: Hospital, shift: Shift) -> None:
    burst = Burst(hospital, await shift.nio("okafor"), 30, HEART.number)
    life = hospital.bridge.pid
    sending = asyncio.create_task(burst.send())
    while burst.accepted < 10:
        await asyncio.sleep(0.01)
    with full_disk(hospital):
        assert (await until_health_is(hospital, "not ready"))["database"] == "takes no writes"
        assert await answer(hospital, "is anybody there?") == (503, "5")
        assert burst.accepted < burst.size
    await sending
    await until_health_is(hospital, "ready")
    await arrived(burst)
    assert hospital.bridge.pid == life


async def test_postgresql_that_restarts_under_the_bridge_loses_nothing(
    hospital_on_postgres: Hospital, postgres: Postgres
) -> None:
    hospital = hospital_on_postgres
    life = hospital.bridge.pid
    async with Shift(hospital) as shift:
        burst = Burst(hospital, await shift.nio("okafor"), 60, HEART.number)
        sending = asyncio.create_task(burst.send())
        for strike, accepted in ((postgres.kill, 20), (postgres.stop, 40)):
            while burst.accepted < accepted:
                await asyncio.sleep(0.01)
            await strike()
            assert (await answer(hospital, "is anybody there?")) == (503, "5")
            assert (await until_health_is(hospital, "not ready"))["database"] == "away"
            await postgres.start()
        await sending
        await until_health_is(hospital, "ready")
        await arrived(burst)
    assert hospital.bridge.pid == life


async def test_an_accept_counts_though_postgresql_dies_as_it_comes(
    hospital_on_postgres: Hospital, postgres: Postgres
) -> None:
    async with Shift(hospital_on_postgres) as shift:
        okafor = await shift.nio("okafor")
        burst = Burst(hospital_on_postgres, okafor, 3, HEART.number)
        await burst.send()
        await burst.arrive()
        room = next(m.room_id for m in okafor.messages if burst.mark in m.body)
        for number, page in enumerate([m for m in okafor.messages if burst.mark in m.body]):
            await okafor.say(room, "accept", in_reply_to=page.event_id)
            await asyncio.sleep(0.02 * number)
            await postgres.kill()
            await postgres.start()
        await okafor.wait_for(
            lambda: sum("Accepted by" in m.body for m in okafor.messages if burst.mark in m.body) == 3, 90
        )


async def test_a_read_only_database_is_told_of_by_health(
    hospital_on_postgres: Hospital, postgres: Postgres
) -> None:
    async def allow_writes(allowed: str) -> None:
        connection = await asyncpg.connect(postgres.url("postgres"))
        await connection.execute(f"ALTER DATABASE hospital SET default_transaction_read_only = {allowed}")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'hospital'"
        )
        await connection.close()

    await allow_writes("on")
    try:
        assert (await until_health_is(hospital_on_postgres, "not ready"))["database"] == "takes no writes"
        assert await answer(hospital_on_postgres, "is anybody there?") == (503, "5")
    finally:
        await allow_writes("off")
    await until_health_is(hospital_on_postgres, "ready")
    assert (await answer(hospital_on_postgres, "and now?"))[0] == 200
