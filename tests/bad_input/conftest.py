"""One hospital at the highest level of logging, and whatever can be thrown at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward, ward_config

SWITCHBOARD = Ward("switchboard", ("moreau",), "+15550100400")  # the fallback
STAFF = ("operator", "moreau")


@pytest.fixture(scope="package")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("hospital")
    config = ward_config(directory / "config", [SWITCHBOARD])
    debug = {"NIGHTBELL_LOG_LEVEL": "debug"}
    async with Hospital(directory, config=config, staff=STAFF, environment=debug) as opened:
        yield opened


@pytest.fixture(scope="package")
async def shift(hospital: Hospital) -> AsyncIterator[Shift]:
    async with Shift(hospital) as opened:
        yield opened


@pytest.fixture(scope="package")
async def operator(shift: Shift) -> Clinician:
    return await shift.nio("operator")


@pytest.fixture(scope="package")
async def moreau(shift: Shift) -> Clinician:
    return await shift.nio("moreau")
