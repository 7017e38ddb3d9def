"""The sources of events, one file each. A new one is one line here."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from bridge.config import Config
from bridge.config.problems import ConfigError, Problem, did_you_mean
from bridge.config.routing import Then, When
from bridge.config.source import Path
from bridge.config.validate import ChannelSection, validate_section
from bridge.config.values import Section
from bridge.model.event import EventKind
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


def unanswerable(config: Config) -> Iterator[Problem]:
    """A problem for each `auto_reply` that the sender of some event would not get."""
    routing = config.routing
    rules = [(("rules", number, "then"), rule.then, rule.when) for number, rule in enumerate(routing.rules)]
    places: list[tuple[Path, Then, When]] = [*rules, (("fallback",), routing.fallback, When())]
    mute = {
        channel: why for channel, section in config.channels.items() if (why := _silent(channel, section))
    }
    for path, then, when in places:
        if then.auto_reply is None:
            continue
        here = (*path, "auto_reply")
        if without := sorted(mute.keys() & _channels_of(when, frozenset(config.channels))):
            message = f'"auto_reply" can\'t be sent by channel "{without[0]}", {mute[without[0]]}'
            yield config.sources["routing.yaml"].problem(here, message)
        elif when.kind and EventKind.TEXT not in when.kind:
            message = '"auto_reply" answers texts, and the rule\'s "kind" has no text'
            yield config.sources["routing.yaml"].problem(here, message)


ANSWERING = frozenset(name for name, each in CHANNEL_TYPES.items() if each.replies)


def _silent(channel: ChannelId, section: ChannelSection) -> str | None:
    """Why the senders of a channel's texts can't be told anything."""
    try:
        settings = read_settings(channel, section)
    except ConfigError:
        return None  # which is a mistake of its own
    replies = CHANNEL_TYPES[section.type].replies
    elsewhere = 'or put it into a rule whose "channel" is another'
    if not replies:
        known = ", ".join(sorted(ANSWERING))
        return f"whose source takes no answer (that have one: {known}); {elsewhere.removeprefix('or ')}"
    if isinstance(replies, str) and getattr(settings, replies) is None:
        return f'which needs "{replies}" to send it; give it one, {elsewhere}'
    return None


def _channels_of(when: When, every: frozenset[ChannelId]) -> frozenset[ChannelId]:
    """The channels by which an event may come for which the conditions are true."""
    found = every & frozenset(when.channel) if when.channel else every
    for part in when.all:
        found &= _channels_of(part, every)
    if when.any:
        found &= frozenset().union(*(_channels_of(part, every) for part in when.any))
    return found
