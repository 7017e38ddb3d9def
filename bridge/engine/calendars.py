"""Rosters that are kept elsewhere: fetched every so often, the last good copy kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import aiohttp
import structlog

from bridge.config import Config, with_calendars
from bridge.config.calendars import parse_calendar
from bridge.engine import operations
from bridge.engine.desk import Desk
from bridge.engine.rulebook import Rulebook
from bridge.model.errors import NightbellError
from bridge.store import calendars
from bridge.store.database import Database

TIMEOUT = aiohttp.ClientTimeout(total=30)
LARGEST_BYTES = 4_000_000
TRY_AGAIN = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class CalendarUnavailableError(NightbellError):
    """A calendar could not be fetched. The message does not hold its address: that may be a secret."""


async def fetch(url: str) -> str:
    """The iCalendar text at an address. Raises CalendarUnavailableError."""
    content = b""
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url) as response:
            response.raise_for_status()
            async for part in response.content.iter_chunked(1 << 16):
                content += part
                if len(content) > LARGEST_BYTES:
                    raise CalendarUnavailableError("it is too large")
        text = content.decode()
        parse_calendar(text)
    except aiohttp.ClientResponseError as error:
        raise CalendarUnavailableError(f"the answer was {error.status}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise CalendarUnavailableError(f"no answer ({type(error).__name__})") from None
    except ValueError:
        raise CalendarUnavailableError("it is no iCalendar file") from None
    return text


async def complete(config: Config, database: Database) -> Config:
    """A configuration with the last good copies of its calendars."""
    async with database.read() as connection:
        return with_calendars(config, await calendars.copies(connection, config.roster.calendars))


class Calendars:
    """Fetches each calendar whose time has come, and puts what has changed into force."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._due: dict[tuple[str, str], datetime] = {}
        self._failing: set[str] = set()

    async def step(self) -> float | None:
        """Fetch what is due."""
        for name, calendar in self._desk.rulebook().config.roster.calendars.items():
            now = self._desk.now()
            if calendar.url is None or self._due.get((name, calendar.url), now) > now:
                continue
            try:
                text = await fetch(calendar.url)
            except CalendarUnavailableError as error:
                self._due[name, calendar.url] = now + min(TRY_AGAIN, calendar.refresh)
                await self._complain(name, str(error))
            else:
                self._due[name, calendar.url] = now + calendar.refresh
                self._failing.discard(name)
                await self._take(name, calendar.url, text)
        return None

    async def _take(self, name: str, url: str, text: str) -> None:
        if self._desk.rulebook().config.calendars.get(name) == text:
            return
        async with self._desk.database.write() as connection:
            await calendars.keep(connection, name, url, text, self._desk.now())
        config = self._desk.rulebook().config
        if name in config.roster.calendars:  # a reload may have come between
            self._desk.rulebook.replace(Rulebook.of(with_calendars(config, {name: text})))
            log.info("calendar_taken", calendar=name)

    async def _complain(self, name: str, reason: str) -> None:
        log.warning("calendar_unavailable", calendar=name, reason=reason)
        if name in self._failing:
            return
        self._failing.add(name)
        stays = (
            "The last good copy stays"
            if name in self._desk.rulebook().config.calendars
            else "It names nobody yet"
        )
        text = f'⚠️ The calendar "{name}" could not be fetched: {reason}. {stays}.'
        async with self._desk.database.write() as connection:
            await operations.tell(connection, self._desk.keys, text, self._desk.now())
        self._desk.bells.decided()
