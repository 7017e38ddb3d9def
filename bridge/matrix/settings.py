"""What a homeserver.yaml says against retention and delivery, and the line that would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

LONGEST_REDACTED = timedelta(days=1)
DEFAULT_REDACTED = "7d"
DURATION = re.compile(r"(\d+)([smhdwy]?)")
UNITS = {
    "": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at. `remedy` is what to do; empty where all is well."""

    what: str
    remedy: str = ""
    serious: bool = True

    @property
    def well(self) -> bool:
        return not self.remedy


def findings(document: Mapping[str, Any], registration: str, longest: timedelta) -> list[Finding]:
    """Every setting of Synapse's homeserver.yaml that this bridge rests on.

    `longest` is how long content lives at most, by retention.yaml.
    """
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
        _messages_in_time(document, longest),
        *_files(document, longest),
        _setting(
            "links in messages are not told to the homeserver",
            lambda: not document.get("url_preview_enabled"),
            "url_preview_enabled: false",
            serious=False,
        ),
        _setting(
            "nothing is indexed for searching",
            lambda: document.get("enable_search") is False,
            "enable_search: false (encrypted messages are in no index; the names of rooms are)",
            serious=False,
        ),
        _setting(
            "nobody keeps when somebody was at their phone",
            lambda: _block(document, "presence").get("enabled", document.get("use_presence")) is False,
            "presence: {enabled: false}",
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
    kept = _duration(document.get("redaction_retention_period", DEFAULT_REDACTED))
    return Finding(what, "" if kept is not None and kept <= LONGEST_REDACTED else remedy)


def _messages_in_time(document: Mapping[str, Any], longest: timedelta) -> Finding:
    what = "the homeserver deletes no message before its time"
    retention = _block(document, "retention")
    ends = {
        "default_policy.max_lifetime": _block(retention, "default_policy").get("max_lifetime"),
        "allowed_lifetime_max": retention.get("allowed_lifetime_max"),
    }
    for name, value in ends.items():
        end = _duration(value)
        if value is not None and retention.get("enabled") and (end is None or end < longest):
            remedy = (
                f"remove retention.{name}: it goes before retention.yaml, by which content lives up to "
                f"{longest.days} days, and before a legal hold"
            )
            return Finding(what, remedy)
    return Finding(what)


def _files(document: Mapping[str, Any], longest: timedelta) -> list[Finding]:
    stays = "files whose message the bridge could not read do not stay for ever"
    early = "the homeserver deletes no recording before its time"
    line = f"media_retention: {{local_media_lifetime: {longest.days + 1}d}}"
    value = _block(document, "media_retention").get("local_media_lifetime")
    lifetime = _duration(value)
    too_short = value is not None and (lifetime is None or lifetime < longest)
    return [
        Finding(stays, "" if value else line, serious=False),
        Finding(early, line if too_short else ""),
        _setting(
            "a deleted file is in no second store",
            lambda: (
                not document.get("media_storage_providers") and not document.get("backup_media_store_path")
            ),
            "remove media_storage_providers and backup_media_store_path: Synapse deletes nothing there",
        ),
    ]


def _duration(value: Any) -> timedelta | None:
    """As Synapse reads it: a bare number is milliseconds. None if it is no time."""
    found = DURATION.fullmatch(str(value))
    return timedelta(milliseconds=int(found[1]) * UNITS[found[2]]) if found else None


def _setting(what: str, holds: Callable[[], bool], remedy: str, *, serious: bool = True) -> Finding:
    return Finding(what, "" if holds() else remedy, serious)


def _block(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = document.get(name)
    return block if isinstance(block, Mapping) else {}
