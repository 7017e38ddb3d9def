"""A clock that is set is told of, for times of day hang on it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bridge.engine.clocks import Clocks
from bridge.model.doors import OPERATIONS
from bridge.store import outbox
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault
from tests.desk import desk


@pytest.mark.parametrize(
    ("leap", "told"),
    [(7200.0, "set ahead by 2 h"), (-3600.0, "set back by 1 h"), (1.0, None), (-0.5, None)],
)
async def test_a_clock_that_was_set_is_told_once(tmp_path: Path, leap: float, told: str | None) -> None:
    database, registry = Database(f"sqlite:///{tmp_path / 'nightbell.db'}"), CollectorRegistry()
    await database.migrate()
    keys, at = KeyRing(Vault(bytes(32))), datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
    await keys.claim(database, at)
    wall, steady = 1000.0, 10.0
    clocks = Clocks(desk(database, keys, lambda: at), registry, wall=lambda: wall, steady=lambda: steady)
    for extra in (0.0, leap, 0.0):
        wall, steady = wall + 5 + extra, steady + 5
        await clocks.step()
    async with database.read() as connection:
        entry = await outbox.head(connection, keys, OPERATIONS)
        depth = await outbox.depth(connection)
    await database.close()
    assert depth == (1 if told else 0)
    if told:
        assert entry is not None
        assert entry.content is not None
        assert told in entry.content.reveal().decode()
    assert registry.get_sample_value("nightbell_clock_set_total") == depth
