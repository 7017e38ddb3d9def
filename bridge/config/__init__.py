"""The configuration: YAML files as frozen values, and every mistake in them with its place and its remedy."""

from bridge.config.load import Config, load, parse, with_calendars
from bridge.config.nightbell import Trust
from bridge.config.problems import ConfigError, Problem
from bridge.config.validate import ChannelSection, validate_section
from bridge.config.values import Duration, LocalPath, SecretRef, SecretUnreadableError, Section, Setting

__all__ = [
    "ChannelSection",
    "Config",
    "ConfigError",
    "Duration",
    "LocalPath",
    "Problem",
    "SecretRef",
    "SecretUnreadableError",
    "Section",
    "Setting",
    "Trust",
    "load",
    "parse",
    "validate_section",
    "with_calendars",
]
