"""The sources of events, one file each. A new one is one line here."""

from __future__ import annotations

import re
from typing import Any

from bridge.channels.asterisk import ASTERISK
from bridge.channels.channel import Channel, ChannelType, Surroundings
from bridge.channels.kannel import KANNEL
from bridge.channels.plivo import PLIVO
from bridge.channels.smtp import SMTP
from bridge.channels.snpp import SNPP
from bridge.channels.telnyx import TELNYX
from bridge.channels.twilio import TWILIO
from bridge.channels.vonage import VONAGE
from bridge.channels.wctp import WCTP
from bridge.channels.webhook import WEBHOOK
from bridge.config.problems import ConfigError, did_you_mean
from bridge.config.validate import ChannelSection, validate_section
from bridge.config.values import Section
from bridge.model.ids import ChannelId

CHANNEL_TYPES: dict[str, ChannelType[Any]] = {
    each.name: each
    for each in (
        ASTERISK,
        KANNEL,
        PLIVO,
        SMTP,
        SNPP,
        TELNYX,
        TWILIO,
        VONAGE,
        WCTP,
        WEBHOOK,
    )
}


def read_settings(channel: ChannelId, section: ChannelSection) -> Section:
    """A channel's settings, without opening it: no secret is read. Raises `ConfigError`."""
    # It stands in a URL and in the metrics.
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", channel):
        raise ConfigError([section.problem(message="a channel's name is a-z, 0-9, - and _, such as er-sms")])
    if section.type not in CHANNEL_TYPES:
        hint = did_you_mean(section.type, CHANNEL_TYPES)
        raise ConfigError([section.problem("type", message=f'unknown type "{section.type}"{hint}')])
    model: type[Section] = CHANNEL_TYPES[section.type].settings
    return validate_section(section, model)


def open_channel(channel: ChannelId, section: ChannelSection, around: Surroundings) -> Channel:
    """A channel as `nightbell.yaml` describes it. Raises `ConfigError` and `SecretUnreadableError`."""
    settings = read_settings(channel, section)
    return CHANNEL_TYPES[section.type].build(channel, settings, around)
