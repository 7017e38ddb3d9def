"""Asking a provider what came: its lists, page by page, bounded in size, time and number.

Credentials go to the provider's own address alone: of what it names as the following page, only the path counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from bridge.channels.moments import read_moment
from bridge.channels.numbers import normal_number
from bridge.model.errors import NothingThereError, SourceError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi

ASK_SECONDS = 30.0  # for one page of a list
MAX_PAGE = 4 * 1024 * 1024  # bytes
MAX_PAGES = 500  # of one list

Page = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """Whom to ask, and how it knows the bridge. `settings` names those that hold its credentials."""

    name: str
    api: str
    authorization: str = field(repr=False)
    settings: str

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Asking]:
        """A connection to ask by."""
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        headers = {"Authorization": self.authorization, "Accept": "application/json"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            yield Asking(self, session)


@dataclass(frozen=True, slots=True)
class Asking:
    """A connection to a provider. `place` is path and query of what is asked, `what` is its name for an error."""

    provider: Provider
    session: aiohttp.ClientSession

    async def get(self, place: str, what: str) -> Page:
        """What is there. Raises `SourceError`, `NothingThereError` if nothing is."""
        name = self.provider.name
        url = URL(self.provider.api.rstrip("/") + place, encoded=True)
        try:
            async with self.session.get(url, allow_redirects=False) as answer:
                if answer.status in (401, 403):
                    raise SourceError(f"{name} does not let the bridge ask: check {self.provider.settings}")
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise NothingThereError(f"{name} has no list of {what} there")
                if answer.status != HTTPStatus.OK:
                    raise SourceError(f"{name} answers {answer.status} to the list of {what}")
                body = bytearray()
                while len(body) <= MAX_PAGE and (more := await answer.content.read(MAX_PAGE + 1 - len(body))):
                    body += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SourceError(f"{name} can't be reached ({type(error).__name__})") from None
        if len(body) > MAX_PAGE:
            raise SourceError(f"{name}'s list of {what} is too long")
        try:
            page = json.loads(body)
        except ValueError:
            page = None
        if not isinstance(page, dict):
            raise SourceError(f"{name}'s list of {what} can't be read")
        return page

    async def listed(
        self,
        place: str,
        what: str,
        key: str,
        following: Callable[[Page], str | None],
        *,
        pause: float = 0.0,
    ) -> list[Page]:
        """The entries of a list, `key` in its pages; `following` says where the next page is, if there is one.

        A list that is not as it is documented is a trouble: nothing may pass for nothing missing. Raises `SourceError`.
        """
        found: list[Page] = []
        for _ in range(MAX_PAGES):
            page = await self.get(place, what)
            entries = page.get(key)
            if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
                raise SourceError(f"{self.provider.name}'s list of {what} can't be read")
            found += entries
            after = following(page)
            if not after:
                return found
            parts = urlsplit(after)
            place = "/" + parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
            await asyncio.sleep(pause)
        raise SourceError(f"{self.provider.name} lists more than {MAX_PAGES} pages of {what}")


def wordless(
    channel: ChannelId,
    key: str,
    provider: str,
    *,
    caller: str | None,
    called: str | None,
    at: str | None,
) -> IntakeEvent:
    """A text of which it is only known that it came, as a record has it.

    Its key is not that of the text: the webhook may yet tell.
    """
    said = f"A text came, of which {provider} tells no words: look for it in {provider}'s console."
    return IntakeEvent(
        channel=channel,
        key=Phi(f"{key} without words"),
        kind=EventKind.TEXT,
        body=Phi(said),
        caller=normal_number(caller, None),
        called=normal_number(called, None),
        occurred_at=read_moment(at),
    )
