"""Recordings and pictures, fetched from a small stand-in of a paid API's far end."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from yarl import URL

from bridge.channels import fetching
from bridge.channels.fetching import OF_ITS_ADDRESS, named
from bridge.channels.twilio_media import media_source, pictures
from bridge.model.attachment import Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.phi import Phi
from tests.channels.wire import far_end

RECORDING = "/2010-04-01/Accounts/AC0001/Recordings/RE0001"
PICTURE = "/2010-04-01/Accounts/AC0001/Messages/MM1/Media/ME1"
KEY = "SK0001:secret"


@dataclass
class Far:
    """Twilio's API: it has a recording and a picture, and keeps the latter elsewhere."""

    port: int = 0
    sound: bytes = b"RIFF"
    kept: set[str] = field(default_factory=lambda: {RECORDING, PICTURE})
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        credentials = request.headers.get("Authorization", "").removeprefix("Basic ")
        self.asked.append((request.method, request.path, base64.b64decode(credentials).decode()))
        if request.path == "/elsewhere":
            return web.Response(body=b"picture", content_type="image/png")
        if not credentials:
            return web.Response(status=401)
        name = request.path.removesuffix(".wav")
        if name not in self.kept:
            return web.Response(status=404)
        if request.method == "DELETE":
            self.kept.remove(name)
            return web.Response(status=204)
        if name == PICTURE:
            raise web.HTTPTemporaryRedirect(f"http://localhost:{self.port}/elsewhere")
        return web.Response(body=self.sound, content_type="audio/x-wav")


@asynccontextmanager
async def twilios_api(far: Far) -> AsyncIterator[Far]:
    async with far_end(far.answer, port=far.port) as address:
        far.port = URL(address).port or 0
        yield far


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    async with twilios_api(Far()) as made:
        yield made


def source(far: Far, credentials: str = KEY) -> MediaSource:
    return media_source(far.url, credentials, remove=True)


async def fetched(far: Far, path: str, credentials: str = KEY) -> Fetched:
    return await source(far, credentials).fetch(Attachment(place=Phi(far.url + path)))


async def test_a_recording_is_asked_for_as_wav_with_the_accounts_credentials(far: Far) -> None:
    assert await fetched(far, RECORDING) == Fetched(Phi(b"RIFF"), "audio/x-wav")
    await fetched(far, RECORDING, "the-auth-token")
    assert far.asked == [
        ("GET", f"{RECORDING}.wav", KEY),
        ("GET", f"{RECORDING}.wav", "AC0001:the-auth-token"),
    ]


async def test_credentials_do_not_follow_a_redirection_to_another_host(far: Far) -> None:
    assert await fetched(far, PICTURE) == Fetched(Phi(b"picture"), "image/png")
    assert far.asked == [("GET", PICTURE, KEY), ("GET", "/elsewhere", "")]


async def test_what_is_deleted_twice_is_deleted(far: Far) -> None:
    remove = source(far).remove
    assert remove is not None
    for _ in range(2):
        await remove(Attachment(place=Phi(far.url + RECORDING)))
    assert far.kept == {PICTURE}


async def test_what_is_not_there_yet_is_asked_for_again(far: Far) -> None:
    with pytest.raises(MediaError, match="answers 404") as refused:
        await fetched(far, f"{RECORDING}2")
    assert refused.value.retry
    assert RECORDING not in str(refused.value)


async def test_one_that_is_too_large_is_given_up(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_MEDIA", 3)
    with pytest.raises(MediaError, match="larger than 3 bytes") as refused:
        await fetched(far, RECORDING)
    assert not refused.value.retry


async def test_credentials_go_to_nobody_else(far: Far) -> None:
    for url in ("https://twilio.com.example/RE1", "http://api.twilio.com/RE1", "file:///etc/passwd"):
        with pytest.raises(MediaError, match="not one of Twilio's"):
            await source(far).fetch(Attachment(place=Phi(url)))


async def test_an_address_inside_is_not_asked() -> None:
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1"):
        with pytest.raises(MediaError, match="can't be reached"):
            await OF_ITS_ADDRESS.fetch(Attachment(place=Phi(f"https://{host}/picture")))
    with pytest.raises(MediaError, match="not https"):
        await OF_ITS_ADDRESS.fetch(Attachment(place=Phi("http://media.example/picture")))


def test_a_messages_pictures_are_named_with_their_kinds() -> None:
    form = {
        "NumMedia": "2",
        "MediaUrl0": "https://a",
        "MediaContentType0": "image/JPEG",
        "MediaUrl1": "https://b",
    }
    assert pictures(form) == (
        Attachment("image/jpeg", place=Phi("https://a")),
        Attachment(place=Phi("https://b")),
    )
    assert pictures({"NumMedia": "9" * 5000}) == ()


@pytest.mark.parametrize(
    "document", [None, 7, "x", [], {}, {"url": None}, {"url": ""}, {"url": ["https://a"]}]
)
def test_what_names_nothing_is_none(document: object) -> None:
    assert named(document) is None
