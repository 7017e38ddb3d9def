"""nightbell.yaml: the homeserver, the doors, the database and the keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, IPvAnyNetwork

from bridge.config.roster import MatrixUser
from bridge.config.values import (
    Duration,
    KeyRef,
    LocalPath,
    NumberSetting,
    SecretRef,
    Section,
    Setting,
    one_or_more,
    resolve_setting,
)
from bridge.model.ids import ChannelId

SIX_YEARS = timedelta(days=2192)  # 45 CFR 164.316(b)(2)(i), with two leap days


class Trust(StrEnum):
    """Which devices of a room's members get its keys."""

    CROSS_SIGNED = "cross_signed"
    FIRST_USE = "first_use"
    ALL = "all"


class Homeserver(Section):
    """The homeserver, and who the bridge is on it. The tokens are in the registration, never here."""

    url: Setting
    server_name: Setting
    registration: LocalPath
    database: SecretRef | None = None
    bot: str = "nightbell"
    display_name: str = "Nightbell"
    device_name: str = "Nightbell"
    timeout: Duration = timedelta(seconds=30)


class Listen(Section):
    """Where the bridge takes requests, and the address under which the world knows that place."""

    host: Setting = "127.0.0.1"
    port: NumberSetting = 8470
    public_url: Setting
    proxies: Annotated[tuple[IPvAnyNetwork, ...], one_or_more] = ()
    per_minute: NumberSetting = Field(12_000, ge=1)


class Database(Section):
    """Where the rows are. The address may hold a password, so that it is read only by `read_url`."""

    url: str = Field(repr=False)

    def read_url(self, directory: Path) -> str:
        """The database's address; a relative SQLite path counts from `directory`.

        Raises `SecretUnreadableError` if a `file:` reference leads to nothing, `ValueError` if it is
        an `env:` reference to a variable that is not set.
        """
        is_file = self.url.startswith("file:")
        url = SecretRef.parse(self.url, directory).read_text() if is_file else str(resolve_setting(self.url))
        scheme, separator, path = url.partition(":///")
        if scheme.startswith("sqlite") and separator and path != ":memory:":
            return f"{scheme}:///{(directory / path).resolve()}"
        return url


class Keys(Section):
    """The key that everything at rest is sealed with. It belongs on another disk than the database."""

    operator_key: KeyRef
    previous_operator_key: KeyRef | None = None


class Administrators(Section):
    """Who may do what with what is kept, by their Matrix IDs; by default those of the operations room."""

    operator: Annotated[tuple[MatrixUser, ...], one_or_more] = ()
    administrator: Annotated[tuple[MatrixUser, ...], one_or_more] = ()
    compliance: Annotated[tuple[MatrixUser, ...], one_or_more] = ()


class Timestamps(Section):
    """A time stamping authority (RFC 3161), and the certificates that its stamps are verified with."""

    url: Setting
    certificates: LocalPath


class Ledger(Section):
    """The record of what happened, how often it is signed, and where the signatures are kept besides."""

    sign_every: Duration = timedelta(hours=1)
    keep: Duration = SIX_YEARS
    anchor: LocalPath | None = None
    timestamps: Timestamps | None = None
    room: str | None = None


class Encryption(Section):
    """Who gets room keys, and how long one is used."""

    trust: Trust = Trust.CROSS_SIGNED
    rotate_after_messages: int = Field(100, ge=1)
    rotate_after: Duration = timedelta(days=7)


class OperationsRoom(Section):
    """The room of those who run the bridge; they hear what needs a human and is no page."""

    name: str = "Nightbell operations"
    members: Annotated[tuple[MatrixUser, ...], one_or_more] = Field(min_length=1)


class Rooms(Section):
    """What holds for every room."""

    federate: bool = False
    operations: OperationsRoom


class Logging(Section):
    """The log. No level writes content, names or numbers."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(resolve_setting)] = "info"
    format: Annotated[Literal["console", "json"], BeforeValidator(resolve_setting)] = "console"


class Metrics(Section):
    """Prometheus metrics, on their own door so that the world doesn't see them."""

    host: Setting = "127.0.0.1"
    port: NumberSetting | None = None


class Transcription(Section):
    """What turns recordings into text; needs the extra `transcription`, and a model that the operator supplies."""

    model: LocalPath
    language: Annotated[str, Field(pattern="^([a-z]{2,3})?$")] = ""
    timeout: Duration = timedelta(minutes=5)


class NightbellConfig(Section):
    """nightbell.yaml. Channels stay as they are written: each channel reads its own section."""

    homeserver: Homeserver
    listen: Listen
    database: Database
    keys: Keys
    administrators: Administrators = Administrators()
    ledger: Ledger = Ledger()
    encryption: Encryption = Encryption()
    rooms: Rooms
    channels: Mapping[ChannelId, Mapping[str, Any]]
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    transcription: Transcription | None = None
