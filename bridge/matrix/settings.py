"""What a homeserver.yaml says against retention and delivery, and the line that would be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge.config.values import parse_duration

LONGEST_REDACTED = timedelta(days=1)
DEFAULT_REDACTED = "7d"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at. `remedy` is what to do; empty where all is well."""

    what: str
    remedy: str = ""
    serious: bool = True

    @property
    def well(self) -> bool:
        return not self.remedy


def findings(document: Mapping[str, Any], registration: str) -> list[Finding]:
    """Every setting of Synapse's homeserver.yaml that this bridge rests on."""
    return [
        _redacted_content(document),
        _setting(
            "old events are deleted from the database",
            lambda: bool(_block(document, "retention").get("enabled")),
            "retention: {enabled: true, purge_jobs: [{interval: 1h}]}",
        ),
        _setting(
            "push providers get no content",
            lambda: _block(document, "push").get("include_content") is False,
            "push: {include_content: false}",
        ),
        _setting(
            "media does not stay for ever",
            lambda: bool(_block(document, "media_retention").get("local_media_lifetime")),
            "media_retention: {local_media_lifetime: 90d}",
            serious=False,
        ),
        _setting(
            "redacted content can't be asked for",
            lambda: not _block(document, "experimental_features").get("msc2815_enabled"),
            "experimental_features: {msc2815_enabled: false}",
        ),
        _setting(
            "the bot's device is not taken for a stale one",
            lambda: not document.get("delete_stale_devices_after"),
            "remove delete_stale_devices_after",
        ),
        _setting(
            "clinicians join by themselves where they are invited",
            lambda: bool(_block(document, "auto_accept_invites").get("enabled")),
            "auto_accept_invites: {enabled: true, only_from_local_users: true}",
            serious=False,
        ),
        _setting(
            "the registration is installed",
            lambda: bool(document.get("app_service_config_files")),
            f"app_service_config_files: [{registration}]",
        ),
        _setting(
            "the database is made for many users",
            lambda: _block(document, "database").get("name") != "sqlite3",
            "use PostgreSQL for Synapse: https://element-hq.github.io/synapse/latest/postgres.html",
            serious=False,
        ),
    ]


def _redacted_content(document: Mapping[str, Any]) -> Finding:
    what = "what was redacted does not stay readable in the database"
    remedy = "redaction_retention_period: 1h"
    value = document.get("redaction_retention_period", DEFAULT_REDACTED)
    if value is None:
        return Finding(what, remedy)
    try:
        # Synapse takes a bare number as milliseconds.
        kept = timedelta(milliseconds=value) if isinstance(value, int) else parse_duration(value)
    except ValueError:
        return Finding(what, remedy)
    return Finding(what, "" if kept <= LONGEST_REDACTED else remedy)


def _setting(what: str, holds: Callable[[], bool], remedy: str, *, serious: bool = True) -> Finding:
    return Finding(what, "" if holds() else remedy, serious)


def _block(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = document.get(name)
    return block if isinstance(block, Mapping) else {}
