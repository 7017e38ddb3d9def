"""The servers that tests share. Each starts at its first use, so that a file alone waits only for what it needs."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from testbed.postgres import Postgres
from testbed.synapse import Synapse


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
