"""What a homeserver.yaml says against retention is found, with the line to put in."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.matrix.settings import findings

GOOD: dict[str, Any] = {
    "redaction_retention_period": "1h",
    "retention": {"enabled": True},
    "push": {"include_content": False},
    "media_retention": {"local_media_lifetime": "90d"},
    "auto_accept_invites": {"enabled": True},
    "app_service_config_files": ["/data/registration.yaml"],
    "database": {"name": "psycopg2"},
}


def remedies(document: dict[str, Any]) -> list[str]:
    return [finding.remedy for finding in findings(document, "/r.yaml") if not finding.well]


def test_a_homeserver_that_is_set_up_as_asked_has_nothing_wrong() -> None:
    assert remedies(GOOD) == []


@pytest.mark.parametrize("value", ["7d", None, "soon", 8 * 24 * 3600 * 1000])
def test_redacted_content_that_stays_is_found(value: Any) -> None:
    assert remedies({**GOOD, "redaction_retention_period": value}) == ["redaction_retention_period: 1h"]


def test_the_defaults_of_synapse_are_not_enough() -> None:
    found = remedies({"database": {"name": "psycopg2"}})
    assert "redaction_retention_period: 1h" in found
    assert "push: {include_content: false}" in found
    assert any(line.startswith("retention:") for line in found)
    assert any(line.startswith("app_service_config_files: [/r.yaml]") for line in found)


@pytest.mark.parametrize(
    "change",
    [
        {"push": {"include_content": True}},
        {"experimental_features": {"msc2815_enabled": True}},
        {"delete_stale_devices_after": "1y"},
        {"retention": None},
        {"app_service_config_files": []},
    ],
)
def test_each_setting_against_it_is_found(change: dict[str, Any]) -> None:
    assert len(remedies({**GOOD, **change})) == 1
