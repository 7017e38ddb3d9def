"""Twilio's recordings and pictures: fetched with the account's credentials, and deleted there if that is wanted.

https://www.twilio.com/docs/voice/api/recording, https://www.twilio.com/docs/messaging/api/media-resource
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from bridge.channels.fetching import basic_auth, delete, fetch
from bridge.model.attachment import MOST, Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

API = "https://api.twilio.com"


def recording(form: Mapping[str, str]) -> tuple[Attachment, ...]:
    """What a `<Record>` has recorded."""
    url = form.get("RecordingUrl", "")
    return (Attachment("audio/x-wav", place=Phi(url)),) if url else ()


def pictures(form: Mapping[str, str]) -> tuple[Attachment, ...]:
    """What came with a message."""
    found = (
        (form.get(f"MediaUrl{n}"), form.get(f"MediaContentType{n}", "").lower()) for n in range(_count(form))
    )
    return tuple(Attachment(kind, place=Phi(url)) for url, kind in found if url)


def listed_pictures(url: str, form: Mapping[str, str]) -> dict[str, str]:
    """Where a message's pictures are that is known from Twilio's list alone: each is one of those that `url` lists.

    They are looked up when they are fetched, so that the text waits for no further answer of Twilio's.
    """
    count = _count(form)
    return {f"MediaUrl{n}": f"{url}#{n}/{count}" for n in range(count)}


def _count(form: Mapping[str, str]) -> int:
    count = form.get("NumMedia", "0")
    return min(int(count), MOST) if count.isdecimal() and len(count) < len("1000") else 0


def media_source(api: str, credentials: str, *, remove: bool) -> MediaSource:
    """How they are had. `credentials` is `SK...:secret` of an API key, or an auth token alone."""

    async def get(attachment: Attachment) -> Fetched:
        place = _address(attachment, api)
        url = await _looked_up(place, api, credentials) if "#" in place else place
        # Without an ending Twilio answers with the recording's properties, or with WAV: with one it is certain.
        wanted = f"{url}.wav" if _is_recording(url) else url
        fetched = await fetch(wanted, _auth(url, credentials), inside=api != API)
        return fetched if url == place else replace(fetched, place=Phi(url))

    async def take_away(attachment: Attachment) -> None:
        url = _address(attachment, api)
        await delete(url, _auth(url, credentials), inside=api != API)

    return MediaSource(get, take_away if remove else None)


async def _looked_up(place: str, api: str, credentials: str) -> str:
    """The address of one of a message's pictures, out of the list of them."""
    url, _, numbers = place.partition("#")
    number, _, count = numbers.partition("/")
    fetched = await fetch(f"{url}?PageSize={MOST}", _auth(url, credentials), inside=api != API)
    try:
        listed = sorted(str(one["uri"]) for one in json.loads(fetched.content.reveal())["media_list"])
    except (ValueError, LookupError, TypeError):
        raise MediaError("Twilio's list of its pictures can't be read", retry=True) from None
    if len(listed) < int(count):  # which one is missing is not known: rather none than one of them twice
        raise MediaError(f"Twilio lists {len(listed)} of {count}", retry=True)
    return urljoin(f"{api}/", listed[int(number)].removesuffix(".json"))


def _address(attachment: Attachment, api: str) -> str:
    """The address, if it is Twilio's: credentials go nowhere else."""
    assert attachment.place is not None  # noqa: S101 - or it would not be fetched
    url = attachment.place.reveal()
    host = urlsplit(url).hostname or ""
    if not url.startswith(f"{api}/") and not (url.startswith("https://") and host.endswith(".twilio.com")):
        raise MediaError("its address is not one of Twilio's: check api", retry=False)
    return url


def _is_recording(url: str) -> bool:
    return re.search(r"/Recordings/RE[0-9A-Za-z]+$", url) is not None


def _auth(url: str, credentials: str) -> str:
    user, colon, secret = credentials.partition(":")
    if not colon:
        found = re.search(r"/Accounts/(AC[0-9A-Za-z]+)/", url)
        user, secret = found[1] if found else "", credentials
    return basic_auth(user, secret)
