"""What a homeserver.yaml says against retention is found, with the line to put in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bridge.matrix.settings import findings

GOOD: dict[str, Any] = {
    "redaction_retention_period": "1h",
    "retention": {"enabled": True},
    "push": {"include_content": False},
    "media_retention": {"local_media_lifetime": "90d"},
    "enable_search": False,
    "presence": {"enabled": False},
    "auto_accept_invites": {"enabled": True},
    "app_service_config_files": ["/data/registration.yaml"],
    "database": {"name": "psycopg2"},
}


LONGEST = timedelta(days=90)  # of what retention.yaml keeps


def remedies(document: dict[str, Any]) -> list[str]:
    return [finding.remedy for finding in findings(document, "/r.yaml", LONGEST) if not finding.well]


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
        {"url_preview_enabled": True},
        {"enable_search": True},
        {"presence": {"enabled": True}},
        {"media_retention": {}},
        {"media_storage_providers": [{"module": "s3_storage_provider.S3StorageProviderBackend"}]},
        {"backup_media_store_path": "/mnt/media"},
    ],
)
def test_each_setting_against_it_is_found(change: dict[str, Any]) -> None:
    assert len(remedies({**GOOD, **change})) == 1


def test_presence_is_found_under_its_older_name() -> None:
    left_out = {name: value for name, value in GOOD.items() if name != "presence"}
    assert remedies({**left_out, "use_presence": False}) == []
    assert remedies(left_out) == ["presence: {enabled: false}"]


@pytest.mark.parametrize("lifetime", ["60d", "1w", 1000, "soon"])
def test_a_clock_of_the_homeservers_own_that_is_quicker_than_ours_is_found(lifetime: Any) -> None:
    media = {**GOOD, "media_retention": {"local_media_lifetime": lifetime}}
    assert remedies(media) == ["media_retention: {local_media_lifetime: 91d}"]
    for retention in ({"default_policy": {"max_lifetime": lifetime}}, {"allowed_lifetime_max": lifetime}):
        (remedy,) = remedies({**GOOD, "retention": {"enabled": True, **retention}})
        assert remedy.startswith("remove retention.")


@pytest.mark.parametrize("lifetime", ["1y", "90d", 90 * 24 * 3600 * 1000])
def test_a_clock_of_the_homeservers_own_that_is_slower_is_well(lifetime: Any) -> None:
    assert remedies({**GOOD, "media_retention": {"local_media_lifetime": lifetime}}) == []


def test_the_homeserver_of_compose_yaml_has_nothing_wrong() -> None:
    compose = YAML(typ="safe").load(Path("compose.yaml").read_text(encoding="utf-8"))
    assert remedies(YAML(typ="safe").load(compose["configs"]["homeserver"]["content"])) == []
