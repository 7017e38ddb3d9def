"""One hospital whose ledger is looked at, and which people leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.wards import overlaid, own_config, write_config

COMPLIANCE = {"compliance": {"name": "Compliance", "members": ["okafor"]}}


@pytest.fixture(scope="package")
async def audited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    """The repository's own hospital, whose ledger is signed every few seconds and posted into a room."""
    directory = tmp_path_factory.mktemp("audited")
    documents = own_config()
    ledger = {"sign_every": "3 s", "room": "compliance"}
    documents["nightbell.yaml"] = overlaid(documents["nightbell.yaml"], {"ledger": ledger})
    documents["roles.yaml"]["rooms"] = COMPLIANCE
    config = write_config(directory / "config", documents)
    async with Hospital(directory, config=config) as hospital:
        yield hospital


@pytest.fixture(scope="package")
async def okafor(audited: Hospital) -> Clinician:
    return await audited.clinician("okafor")
