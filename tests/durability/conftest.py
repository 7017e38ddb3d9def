"""Two hospitals that are struck again and again, one on SQLite and one on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from testbed.hospital import Hospital
from testbed.postgres import Postgres
from testbed.proxy import Proxy
from testbed.shift import Shift
from testbed.wards import Ward, ward_config

SWITCHBOARD = Ward("switchboard", ("moreau",), "+15550100300")  # the fallback
HEART = Ward("heart", ("okafor", "lindqvist"), "+15550100301")
BRAIN = Ward("brain", ("singh",), "+15550100302")
WARDS = (SWITCHBOARD, HEART, BRAIN)
STAFF = ("operator", *(person for ward in WARDS for person in ward.people))


@asynccontextmanager
async def staffed(directory: Path, database_url: str | None = None) -> AsyncIterator[Hospital]:
    """A hospital in which everybody has an encrypted device, so that no message waits for a reader."""
    config = ward_config(directory / "config", WARDS)
    async with Hospital(directory, config=config, staff=STAFF, database_url=database_url) as hospital:
        async with Shift(hospital) as first:
            for name in STAFF:
                await first.nio(name)
        yield hospital


@pytest.fixture(scope="package")
async def standing_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    async with staffed(tmp_path_factory.mktemp("hospital")) as hospital:
        yield hospital


@pytest.fixture(scope="package")
async def standing_on_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[Hospital]:
    url = await postgres.create_database("hospital")
    async with staffed(tmp_path_factory.mktemp("hospital-on-postgres"), url) as hospital:
        yield hospital


@pytest.fixture
async def hospital(standing_on_sqlite: Hospital) -> Hospital:
    """Up, whatever the test before has done to it."""
    return await _up(standing_on_sqlite)


@pytest.fixture
async def hospital_on_postgres(standing_on_postgres: Hospital) -> Hospital:
    return await _up(standing_on_postgres)


@pytest.fixture
async def shift(hospital: Hospital) -> AsyncIterator[Shift]:
    async with Shift(hospital) as opened:
        yield opened


@pytest.fixture
async def proxy(hospital: Hospital) -> AsyncIterator[Proxy]:
    """A door between the bridge and its homeserver, for one test."""
    bridge = hospital.bridge
    direct = bridge.environment["NIGHTBELL_HOMESERVER_URL"]
    async with Proxy(hospital.synapse.base_url) as door:
        await bridge.stop()
        bridge.environment["NIGHTBELL_HOMESERVER_URL"] = door.base_url
        await _up(hospital)
        yield door
        await bridge.kill()
        bridge.environment["NIGHTBELL_HOMESERVER_URL"] = direct


async def _up(hospital: Hospital) -> Hospital:
    if hospital.synapse.pid is None:
        await hospital.synapse.start()
    if hospital.bridge.pid is None:
        await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    return hospital
