"""One hospital for all tests of this directory, in which each has a ward of its own."""

from collections.abc import AsyncIterator

import pytest

from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward, ward_config

WARDS = tuple(
    Ward(f"ward-{number:02}", (f"ann{number:02}", f"ben{number:02}"), f"+155501002{number:02}")
    for number in range(22)
)


@pytest.fixture(scope="package")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("hospital")
    staff = ("operator", "stranger", *(person for ward in WARDS for person in ward.people))
    async with Hospital(directory, config=ward_config(directory / "config", WARDS), staff=staff) as opened:
        yield opened


@pytest.fixture(scope="package")
def unused_wards() -> list[Ward]:
    return list(reversed(WARDS))


@pytest.fixture
def ward(unused_wards: list[Ward]) -> Ward:
    return unused_wards.pop()


@pytest.fixture
async def shift(hospital: Hospital) -> AsyncIterator[Shift]:
    async with Shift(hospital) as opened:
        yield opened
