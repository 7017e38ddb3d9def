"""The servers that tests share. Each starts at its first use, so that a file alone waits only for what it needs."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from testbed.postgres import Postgres
from testbed.synapse import Synapse

# What a test finds out does not depend on how fast the machine is.
settings.register_profile("at any speed", deadline=None)
settings.load_profile("at any speed")


@pytest.fixture(scope="session")
def registrations() -> Sequence[Path]:
    """The appservices that the shared Synapse knows."""
    return ()


@pytest.fixture(scope="session")
async def synapse(
    tmp_path_factory: pytest.TempPathFactory, registrations: Sequence[Path]
) -> AsyncIterator[Synapse]:
    async with Synapse(tmp_path_factory.mktemp("synapse"), registrations=registrations) as server:
        yield server


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    async with Postgres() as server:
        yield server
