"""A real bridge with a crowd before its door: whoever has something to say is heard."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from tests.channels.test_http import half_open

pytestmark = pytest.mark.slow

HEAD = b"POST /intake/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


@asynccontextmanager
async def crowd(hospital: Hospital, size: int) -> AsyncIterator[None]:
    """Connections from a thousand addresses that say nothing, half a head, or half a body."""
    said = (b"", HEAD[:30], HEAD + b"slow")
    async with AsyncExitStack() as everybody:
        for number in range(size):
            host = f"127.1.{number % 250}.{1 + number % 4}"
            await everybody.enter_async_context(half_open(hospital.bridge.port, host, said[number % 3]))
        yield


async def test_through_thousands_of_half_open_connections_an_event_reaches_a_person(
    hospital: Hospital, moreau: Clinician
) -> None:
    async with crowd(hospital, 3_000):
        assert (await hospital.event({"kind": "text", "body": "heard through the crowd"})).accepted
    await moreau.message("heard through the crowd", 60)


@contextmanager
def few_open_files(hospital: Hospital) -> Iterator[int]:
    """As many as the bridge has numbers for, and two more; yields how many of them are free."""
    pid = hospital.bridge.pid
    assert pid is not None
    allowed = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = [int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()]
    few = max(taken) + 3
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, allowed[1]))
    yield few - len(taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)


async def test_out_of_open_files_a_bridge_goes_on_and_says_so(
    hospital: Hospital, operator: Clinician, moreau: Clinician
) -> None:
    with few_open_files(hospital) as free:
        async with crowd(hospital, free + 10):
            await operator.message("connections have to wait", 60)
    await operator.message("(doors) is well again", 60)
    assert (await hospital.event({"kind": "text", "body": "heard after the shortage"})).accepted
    await moreau.message("heard after the shortage", 60)
