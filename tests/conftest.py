"""The servers that tests share. Each starts at its first use, so that a file alone waits only for what it needs."""

from collections.abc import AsyncIterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import settings

from testbed.postgres import Postgres
from testbed.synapse import Synapse

# What a test finds out does not depend on how fast the machine is.
settings.register_profile("at any speed", deadline=None)
settings.load_profile("at any speed")


def pytest_collection_modifyitems(items: Sequence[pytest.Function]) -> None:
    """Tests that share servers run in one process: those of a directory, or of a file."""
    for item in items:
        fixtures = chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())
        shared = item.path.parent if any(each.scope == "package" for each in fixtures) else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))


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
