"""The four files of a configuration directory, as one frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.config.calendars import parse_calendar
from bridge.config.nightbell import NightbellConfig
from bridge.config.problems import ConfigError, Problem
from bridge.config.references import outlived, unknown_names
from bridge.config.retention import RetentionConfig
from bridge.config.roster import Roster
from bridge.config.routing import RoutingConfig
from bridge.config.source import Source, parse_source
from bridge.config.validate import ChannelSection, M, validate
from bridge.model.ids import ChannelId, UserId

FILES = ("nightbell.yaml", "roles.yaml", "routing.yaml", "retention.yaml")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes in its form and its names.

    `hash` is the SHA-256 of what the files say; comments, order of keys and layout don't change it.
    """

    nightbell: NightbellConfig
    roster: Roster
    routing: RoutingConfig
    retention: RetentionConfig
    hash: str
    directory: Path
    channels: Mapping[ChannelId, ChannelSection]
    calendars: Mapping[
        str, str
    ]  # iCalendar text by name: files are read by `load`, addresses are fetched later
    sources: Mapping[str, Source] = field(repr=False)

    @property
    def database_url(self) -> str:
        """Where the rows are. See `Database.read_url` for what it raises."""
        return self.nightbell.database.read_url(self.directory)

    @property
    def bot(self) -> UserId:
        """The one Matrix user that the bridge speaks as."""
        homeserver = self.nightbell.homeserver
        return UserId(f"@{homeserver.bot}:{homeserver.server_name}")


def with_calendars(config: Config, fetched: Mapping[str, str]) -> Config:
    """The same configuration with newly fetched calendars. Raises `ValueError` if one can't be read."""
    for text in fetched.values():
        parse_calendar(text)
    return replace(config, calendars={**config.calendars, **fetched})


def load(directory: Path) -> Config:
    """Read the configuration in a directory. Raises `ConfigError` with every mistake that can be found."""
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for name in FILES:
        try:
            texts[name] = (directory / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problems.append(Problem(str(directory / name), 1, 1, f"this file can't be read: {said}"))
    if problems:
        raise ConfigError(problems)
    return parse(texts, directory)


def parse(texts: Mapping[str, str], directory: Path) -> Config:
    """Read a configuration from the texts of its files. Raises `ConfigError` as `load` does."""
    problems: list[Problem] = []
    sources: dict[str, Source] = {}
    for name in FILES:
        try:
            sources[name] = parse_source(str(directory / name), texts[name])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)

    def read(name: str, model: type[M]) -> M | None:
        try:
            return validate(sources[name], (), sources[name].value or {}, model, directory)
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    nightbell = read("nightbell.yaml", NightbellConfig)
    roster = read("roles.yaml", Roster)
    routing = read("routing.yaml", RoutingConfig)
    retention = read("retention.yaml", RetentionConfig)
    if nightbell is not None:
        problems += _untyped_channels(nightbell, sources["nightbell.yaml"])
    if nightbell is None or roster is None or routing is None or retention is None:
        raise ConfigError(problems)
    problems += unknown_names(nightbell, roster, routing, retention, sources)
    problems += outlived(nightbell, retention, sources)
    calendars, unreadable = _calendars(roster, sources["roles.yaml"])
    problems += unreadable
    if problems:
        raise ConfigError(problems)
    channels = {
        channel: ChannelSection(section["type"], sources["nightbell.yaml"], ("channels", channel), directory)
        for channel, section in nightbell.channels.items()
    }
    documents = {name: source.value for name, source in sources.items()} | {"calendars": calendars}
    return Config(
        nightbell, roster, routing, retention, _hash(documents), directory, channels, calendars, sources
    )


def _untyped_channels(nightbell: NightbellConfig, source: Source) -> list[Problem]:
    return [
        source.key_problem(("channels", channel), f'channel "{channel}" has no "type", such as twilio')
        for channel, section in nightbell.channels.items()
        if not isinstance(section.get("type"), str)
    ]


def _calendars(roster: Roster, source: Source) -> tuple[dict[str, str], list[Problem]]:
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for name, calendar in roster.calendars.items():
        if calendar.file is not None:
            try:
                texts[name] = calendar.file.read_text(encoding="utf-8")
                parse_calendar(texts[name])
            except (OSError, ValueError) as error:
                said = error.strerror if isinstance(error, OSError) else f"it is no iCalendar file: {error}"
                problems.append(
                    source.problem(("calendars", name, "file"), f"{calendar.file} can't be read: {said}")
                )
    return texts, problems


def _hash(documents: Mapping[str, Any]) -> str:
    canonical = json.dumps(documents, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
