"""The kinds of value that stand in the files: durations, settings, secrets, local times."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

from bridge.model.errors import NightbellError


class Section(BaseModel):
    """Base of everything that is read from a file: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


# ------------------------------------------------------------------------------------------ durations

_UNITS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60, "hour": 3600, "h": 3600}
_UNITS |= {"day": 86400, "d": 86400, "week": 604800, "w": 604800, "year": 31557600, "y": 31557600}
_DURATION = re.compile(r"(\d+)\s*([a-z]+)")


def parse_duration(value: Any) -> timedelta:
    """Read `90s`, `5 min`, `2h 30m`, `7 days`, `6 years` (of 365.25 days).

    Raises `ValueError` for anything else; a bare number has no unit and is refused.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip().lower()
    parts = _DURATION.findall(text)
    seconds = [int(count) * _UNITS.get(unit, _UNITS.get(unit.removesuffix("s"), 0)) for count, unit in parts]
    if not parts or 0 in seconds or _DURATION.sub("", text).strip(" ,"):
        raise ValueError("should be a time such as 90s, 5 min, 2 h, 7 days")
    try:
        return timedelta(seconds=sum(seconds))
    except OverflowError:
        raise ValueError("should be a time such as 90s, 5 min, 2 h, 7 days") from None


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

# ------------------------------------------------------------------------- settings from the environment

_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?:\s+or\s+(.+))?")


def resolve_setting(value: Any) -> Any:
    """Replace `env:NAME` or `env:NAME or DEFAULT` by what the environment says; leave other values alone.

    Raises `ValueError` if the variable is not set and there is no default.
    """
    match = _ENVIRONMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    name, default = match.groups()
    found = os.environ.get(name) or default
    if found is None:
        raise ValueError(f'needs the environment variable {name}: set it, or write "env:{name} or DEFAULT"')
    return found


Setting = Annotated[str, BeforeValidator(resolve_setting)]
NumberSetting = Annotated[int, BeforeValidator(resolve_setting)]


def _beside_the_files(value: Any, info: ValidationInfo) -> Path:
    return directory_of(info) / Path(str(resolve_setting(value))).expanduser()


def directory_of(info: ValidationInfo) -> Path:
    """The directory of the configuration, from which relative paths count."""
    return Path((info.context or {}).get("directory", "."))


# A path; a relative one counts from the directory of the configuration.
LocalPath = Annotated[Path, BeforeValidator(_beside_the_files)]

# -------------------------------------------------------------------------------------------- secrets


COMMAND_SECONDS = 30


class SecretUnreadableError(NightbellError):
    """A secret's reference leads to nothing. The message names the reference, never a value."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret lies: `env:NAME` or `file:PATH`. The value is read when it is used, and kept nowhere.

    `env:NAME` also looks for a file named by the variable `NAME_FILE`, as container secrets are handed over.
    """

    schemes: ClassVar[Mapping[str, str]] = {"env": "NAME", "file": "PATH"}

    scheme: str
    name: str
    directory: Path = field(default=Path(), repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    @property
    def file(self) -> Path | None:
        """The file that holds it, if one does."""
        if self.scheme == "file":
            return self.directory / Path(self.name).expanduser()
        if self.scheme == "env" and not os.environ.get(self.name):
            path = os.environ.get(f"{self.name}_FILE")
            return Path(path) if path else None
        return None

    def read(self) -> bytes:
        """The secret, exactly as it lies there. Raises `SecretUnreadableError`."""
        if self.scheme == "env" and (value := os.environb.get(self.name.encode())):
            return value
        if (path := self.file) is not None:
            return self._read_file(path)
        raise SecretUnreadableError(
            f"the secret {self} can't be read: set the environment variable {self.name}, or {self.name}_FILE"
        )

    def read_text(self) -> str:
        """The secret as text, without the line end after it. Raises `SecretUnreadableError`."""
        try:
            text = self.read().decode().strip()
        except UnicodeDecodeError:
            raise SecretUnreadableError(f"the secret {self} is not UTF-8 text") from None
        if not text:
            raise SecretUnreadableError(f"the secret {self} is empty")
        return text

    def _read_file(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise SecretUnreadableError(
                f"the secret {self} can't be read from {path}: {error.strerror}"
            ) from error

    @classmethod
    def parse(cls, value: Any, directory: Path) -> SecretRef:
        """Read a reference. Raises `ValueError` without repeating the value: it may be the secret itself."""
        if isinstance(value, cls):
            return value
        scheme, colon, name = str(value).strip().partition(":")
        if not colon or scheme not in cls.schemes or not name:
            forms = " or ".join(f"{known}:{what}" for known, what in cls.schemes.items())
            raise ValueError(f"should be a reference, {forms}, and never the secret itself")
        return cls(scheme, name, directory)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: cls.parse(value, directory_of(info))
        )


@dataclass(frozen=True, slots=True, repr=False)
class KeyRef(SecretRef):
    """A secret that a command may print, too (`command:PROGRAM ARGUMENTS`): a KMS's client, or `systemd-creds`.

    The command runs without a shell, in the configuration's directory, and what it prints is the key. A key is read
    at the start and at a reload; other secrets are read at every use, where a command would take too long.
    """

    schemes: ClassVar[Mapping[str, str]] = {**SecretRef.schemes, "command": "PROGRAM ARGUMENTS"}

    def __str__(self) -> str:
        # A command's arguments may be anything.
        name = self.name.split()[0] if self.scheme == "command" else self.name
        return f"{self.scheme}:{name}"

    __repr__ = __str__

    def read(self) -> bytes:
        """The secret, exactly as it lies there or is printed. Raises `SecretUnreadableError`."""
        if self.scheme != "command":
            return SecretRef.read(self)
        try:
            ended = subprocess.run(  # noqa: S603 - the administrator's own words, and no shell
                shlex.split(self.name),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired:
            reason = f"it did not end within {COMMAND_SECONDS} seconds"
        except subprocess.CalledProcessError as error:
            reason = f"it ended with {error.returncode}; run it by hand as the bridge's user to see why"
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return ended.stdout
        raise SecretUnreadableError(f"the key of {self} can't be had: {reason}")


# ------------------------------------------------------------------------------------ zones and local times


def parse_zone(value: Any) -> ZoneInfo:
    """Read a time zone's name. Raises `ValueError`."""
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("should be a time zone such as Europe/Berlin or America/New_York") from None


Zone = Annotated[ZoneInfo, BeforeValidator(parse_zone), PlainSerializer(str)]


def parse_local(value: Any) -> datetime:
    """Read a local time such as `2026-12-24 18:00`; a date means its first minute. Raises `ValueError`."""
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError("should be a date or a local time such as 2026-12-24 or 2026-12-24 18:00") from None
    if moment.tzinfo is not None:
        raise ValueError("is a local time: leave its offset away, and give the zone in time_zone")
    return moment


LocalTime = Annotated[datetime, BeforeValidator(parse_local)]


def parse_date(value: Any) -> date:
    """Read a date such as `2026-12-24`. Raises `ValueError`."""
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError("should be a date such as 2026-12-24") from None


Day = Annotated[date, BeforeValidator(parse_date)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


# A field for which one value may stand without the brackets of a list.
one_or_more = BeforeValidator(_as_list)
