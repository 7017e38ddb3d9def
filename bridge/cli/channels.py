"""`nightbell channels`: what is configured, and the address to give each source."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime

import typer
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from bridge.channels import read_settings
from bridge.channels.asterisk import AsteriskSettings
from bridge.channels.channel import intake_path
from bridge.channels.kannel import KannelSettings
from bridge.channels.smtp import SmtpSettings
from bridge.channels.tcp import ListenerSettings
from bridge.channels.twilio import TwilioSettings
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.reachable import reachable
from bridge.config import Config, ConfigError
from bridge.config.values import Section
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import ChannelId
from bridge.store.database import Database
from bridge.store.tables import intake

TIMEOUT_SECONDS = 3


def channels(config: ConfigDirectory = CONFIG) -> None:
    """List the channels: the address to give the source, the last event, and how the running bridge finds it."""
    loaded = load_or_exit(config)
    last = asyncio.run(_last_events(loaded.database_url))
    listen = loaded.nightbell.listen
    states = _states(f"http://{reachable(listen.host)}:{listen.port}/health")
    zone = loaded.roster.time_zone
    for channel, section in loaded.channels.items():
        try:
            settings = read_settings(channel, section)
        except ConfigError as error:
            typer.echo(str(error), err=True)
            continue
        seen = (last or {}).get(channel)
        heard = f"{seen.astimezone(zone):%a %Y-%m-%d %H:%M:%S}" if seen else "never"
        if last is None:
            heard = "unknown: the database does not answer"
        typer.echo(f"{channel} ({section.type})")
        for place in addresses(loaded, channel, settings):
            typer.echo(f"  address     {place}")
        typer.echo(f"  last event  {heard}")
        if states is None:
            typer.echo("  state       unknown: the bridge does not answer")
        else:
            typer.echo(f"  state       {states.get(f'channel {channel}', 'well')}")
            if reconciled := states.get(f"reconcile {channel}"):
                typer.echo(f"  reconciled  {reconciled}")


def addresses(config: Config, channel: ChannelId, settings: Section) -> list[str]:
    """Where a channel's source reaches it, or where it reaches its source."""
    if isinstance(settings, ListenerSettings):
        everywhere = reachable(settings.host) != settings.host
        place = f"{'this machine' if everywhere else settings.host} port {settings.port}"
        if isinstance(settings, SmtpSettings):
            return [f"{place}, for mail to RECIPIENT@{domain}" for domain in settings.domains]
        return [place]
    if isinstance(settings, AsteriskSettings):
        return [f"connects to {settings.host} port {settings.port}"]
    here = config.nightbell.listen.public_url.rstrip("/") + intake_path(channel)
    if isinstance(settings, KannelSettings):
        return [f"{here}?secret=SECRET&id=%I&from=%p&to=%P&unix=%T"]
    if isinstance(settings, TwilioSettings) and settings.voice is not None:
        return [here, f"{here}/voice for calls", f"{here}/voice/status for their changes of status"]
    return [here]


async def _last_events(url: str) -> Mapping[ChannelId, datetime] | None:
    """When each channel's last event came; nothing if there is no database yet, None if it does not answer."""
    database = Database(url)
    if database.is_missing:
        return {}
    try:
        async with database.read() as connection:
            query = select(intake.c.channel, func.max(intake.c.received_at)).group_by(intake.c.channel)
            return {ChannelId(channel): at for channel, at in (await connection.execute(query)).all()}
    except OperationalError:  # it has no tables yet
        return {}
    except StoreUnavailableError:
        return None
    finally:
        await database.close()


def _states(url: str) -> Mapping[str, str] | None:
    """What the running bridge says of its parts, whether it is ready or not; None if it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - http, to this machine
            said = answer.read()
    except urllib.error.HTTPError as error:
        said = error.read()
    except OSError:
        return None
    try:
        parts: dict[str, str] = json.loads(said)["parts"]
    except (ValueError, KeyError):
        return None
    return parts
