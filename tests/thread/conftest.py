"""The hospital of `config/`, all its people at their clients, and two lines more: one in a hurry, one that can wait."""

from collections.abc import AsyncIterator

import pytest

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import own_config, write_config

HURRIED_LINE = "+15550100111"
PATIENT_LINE = "+15550100122"
RULES = [
    {"id": "hurried", "when": {"called": HURRIED_LINE}, "then": {"role": "cardiology", "ladder": "hurried"}},
    {
        "id": "patient",
        "when": {"called": PATIENT_LINE},
        "then": {"role": "cardiology", "priority": "routine"},
    },
]
HURRIED = [
    {"after": "1 s", "notify": "again"},
    {"after": "2 s", "notify": "next"},
    {"after": "1 s", "notify": "operations"},
]


@pytest.fixture(scope="package")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("thread")
    documents = own_config()
    routing = documents["routing.yaml"]
    routing["rules"] = [*RULES, *routing["rules"]]
    routing["ladders"]["hurried"] = {"steps": HURRIED}
    async with Hospital(directory, config=write_config(directory / "config", documents)) as opened:
        yield opened


@pytest.fixture(scope="package")
async def shift(hospital: Hospital) -> AsyncIterator[Shift]:
    async with Shift(hospital) as opened:
        yield opened


@pytest.fixture(scope="package")
async def okafor(shift: Shift) -> Clinician:
    """A cardiologist at matrix-nio."""
    client = await shift.nio("okafor")
    await client.entrusted()
    return client


@pytest.fixture(scope="package")
async def lindqvist(shift: Shift, hospital: Hospital) -> Element:
    """A cardiologist at Element's crypto, which shows and sends only what signed devices may read."""
    client = await shift.element("lindqvist", only_signed=True)
    await client.meet(hospital.bot)
    await client.entrusted()
    return client


@pytest.fixture(scope="package")
async def moreau(shift: Shift) -> Clinician:
    """The switchboard."""
    client = await shift.nio("moreau")
    await client.entrusted()
    return client


@pytest.fixture(scope="package")
async def operator(shift: Shift) -> Clinician:
    client = await shift.nio("operator")
    await client.entrusted()
    return client
