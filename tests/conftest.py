"""The servers that tests share. Each starts at its first use, so that a file alone waits only for what it needs."""

from collections.abc import AsyncIterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from testbed.postgres import Postgres
from testbed.synapse import Synapse

# What a test finds out does not depend on how fast the machine is.
settings.register_profile("at any speed", deadline=None)
settings.load_profile("at any speed")


class ByServers(LoadScopeScheduling):  # type: ignore[misc] # it carries no types
    """Tests that share servers run in one process: those of a file, or of a directory that has servers of its own."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return str(file.parent if _has_servers(self.config.rootpath / file.parent) else file)


@cache
def _has_servers(directory: Path) -> bool:
    fixtures = directory / "conftest.py"
    return fixtures.exists() and 'scope="package"' in fixtures.read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServers:
    return ByServers(config, log)


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
