"""`nightbell doctor` tells of an operator's key that a copy of the database would take along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.cli.doctor import keys_apart
from bridge.config import Config, parse
from tests.policy.hospital import DIRECTORY, NIGHTBELL, documents


def configured(database: str, key: str) -> Config:
    files = {name: json.dumps(document) for name, document in documents().items()}
    changed = {**NIGHTBELL, "database": {"url": database}, "keys": {"operator_key": key}}
    return parse({**files, "nightbell.yaml": json.dumps(changed)}, DIRECTORY)


def test_a_key_in_the_databases_directory_is_advised_against(tmp_path: Path) -> None:
    (finding,) = keys_apart(
        configured(f"sqlite:///{tmp_path}/nightbell.db", f"file:{tmp_path}/keys/operator")
    )
    assert "beside the database" in finding.remedy
    assert not finding.serious


def test_a_file_that_the_environment_names_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_FILE", f"{tmp_path}/operator")
    (finding,) = keys_apart(configured(f"sqlite:///{tmp_path}/nightbell.db", "env:KEY"))
    assert "beside the database" in finding.remedy


@pytest.mark.parametrize(
    "key", ["env:KEY", "command:systemd-creds cat operator", "file:/run/secrets/operator"]
)
def test_a_key_that_lies_elsewhere_is_well(tmp_path: Path, key: str) -> None:
    (finding,) = keys_apart(configured(f"sqlite:///{tmp_path}/rows/nightbell.db", key))
    assert finding.well


def test_a_database_on_a_server_has_no_directory(tmp_path: Path) -> None:
    assert keys_apart(configured("postgresql://db/nightbell", f"file:{tmp_path}/operator")) == []
