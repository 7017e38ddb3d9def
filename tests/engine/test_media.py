"""Recordings whose source or homeserver is in trouble: tried again, told of, and never in the way of a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from bridge.engine.media import PATIENCE, TOLD_AT, Media
from bridge.model.attachment import Attachment
from bridge.model.doors import OPERATIONS, Destination, EncryptedFile, Fetched, MediaSource, Recording
from bridge.model.errors import HomeserverError, MediaError
from bridge.model.ids import ChannelId, EventId
from bridge.model.phi import Phi
from bridge.store import outbox, tables
from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.store.outbox import Purpose
from bridge.vault import Vault
from tests.store.conftest import NOW, OPERATOR_KEY
from tests.store.test_retention import HEART, ROOM, open_page

THERE = Attachment("audio/wav", place=Phi("somewhere"))
ROLE = Destination(HEART)


@dataclass
class World:
    """A bridge's media, and the two ends of it that may fail."""

    database: Database
    keys: KeyRing
    now: datetime = NOW
    fetching: list[MediaError] = field(default_factory=list)
    uploading: list[HomeserverError | bool] = field(default_factory=list)
    removing: list[MediaError] = field(default_factory=list)
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    removed: int = 0
    heard: list[str | MediaError] | None = None  # what transcription makes of it; None where there is none
    milliseconds: int = 5000

    @property
    def inbox(self) -> IntakeStore:
        return IntakeStore(self.database, self.keys, lambda: NOW, lambda: None)

    async def fetch(self, _: Attachment) -> Fetched:
        if self.fetching:
            raise self.fetching.pop(0)
        return Fetched(Phi(b"RIFF"), "audio/wav")

    async def remove(self, _: Attachment) -> None:
        if self.removing:
            raise self.removing.pop(0)
        self.removed += 1

    async def playable(self, content: Phi[bytes]) -> Recording:
        return Recording(Phi(b"Ogg of " + content.reveal()), self.milliseconds, (0, 1024))

    def encrypt_file(self, content: Phi[bytes]) -> EncryptedFile:
        return EncryptedFile(content.reveal()[::-1], Phi(b'{"key": "k"}'))

    def decrypt_file(self, file: EncryptedFile) -> Phi[bytes]:
        assert file.opening == Phi(b'{"key": "k"}')
        return Phi(file.ciphertext[::-1])

    async def transcribe(self, recording: Phi[bytes]) -> Phi[str]:
        assert recording == Phi(b"Ogg of RIFF")
        assert self.heard is not None
        said = self.heard.pop(0)
        if isinstance(said, MediaError):
            raise said
        return Phi(said)

    async def reserve_file(self) -> str:
        return f"mxc://nightbell.test/{len(self.uploads)}"

    async def upload_file(self, mxc: str, ciphertext: bytes) -> bool:
        self.uploads.append((mxc, ciphertext))
        outcome = self.uploading.pop(0) if self.uploading else True
        if isinstance(outcome, HomeserverError):
            raise outcome
        return outcome

    async def work(self, times: int = 1) -> None:
        """Let the loop look so many times, each as late as the longest pause has it."""
        media = Media(
            self.database,
            self.keys,
            {ChannelId("sms"): MediaSource(self.fetch, self.remove)},
            self,
            self.playable,
            now=lambda: self.now,
            decided=lambda: None,
            wake=lambda: None,
            transcribe=None if self.heard is None else self.transcribe,
        )
        for _ in range(times):
            async with asyncio.TaskGroup() as group:
                await media.step(group)
            self.now += timedelta(minutes=5)

    async def said(self, destination: Destination = ROLE) -> list[dict[str, object]]:
        """Send all that waits for a room; what it says, the page's own message not among it."""
        found = []
        async with self.database.write() as connection:
            while (entry := await outbox.head(connection, self.keys, destination)) is not None:
                assert entry.content is not None
                found.append(json.loads(entry.content.reveal()) | {"purpose": entry.purpose})
                await outbox.mark_sent(connection, [(entry.id, ROOM, EventId(f"${entry.id}"))], NOW)
        return found

    async def state(self) -> tuple[str, str | None]:
        async with self.database.read() as connection:
            row = (await connection.execute(select(tables.attachment))).one()
            return row.state, row.at_source


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(OPERATOR_KEY))
    await keys.claim(database, NOW)
    made = World(database, keys)
    await open_page(database, keys, made.inbox, "1", THERE)
    yield made
    await database.close()


def away() -> MediaError:
    return MediaError("its source answers 503", retry=True)


async def test_a_recording_is_fetched_uploaded_said_and_then_deleted_at_its_source(world: World) -> None:
    await world.work(2)
    [audio] = await world.said()
    assert audio["purpose"] == Purpose.MEDIA
    assert (audio["body"], audio["file"]) == ("Recording 0:05", {"key": "k", "url": "mxc://nightbell.test/0"})
    assert world.removed == 0
    await world.work()
    assert (world.removed, await world.state()) == (1, ("uploaded", "gone"))
    assert world.uploads == [("mxc://nightbell.test/0", b"FFIR fo ggO")]


async def test_a_source_that_is_away_for_a_moment_is_nobodys_concern(world: World) -> None:
    world.fetching = [away()]
    await world.work(3)
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA]
    assert await world.said(OPERATIONS) == []


async def test_a_source_that_stays_away_is_told_of_once_and_asked_again(world: World) -> None:
    world.fetching = [away() for _ in range(TOLD_AT + 3)]
    await world.work(TOLD_AT + 2)
    [note] = await world.said()
    assert "can't be had yet (its source answers 503)" in str(note["body"])
    [told] = await world.said(OPERATIONS)
    assert "sms: A recording, picture or file" in str(told["body"])
    await world.work(4)
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA]


async def test_what_its_source_has_lost_is_given_up_and_said_so(world: World) -> None:
    world.fetching = [MediaError("its source answers 410", retry=False)]
    await world.work(3)
    [note] = await world.said()
    assert "could not be brought here (its source answers 410)" in str(note["body"])
    assert len(await world.said(OPERATIONS)) == 1
    assert (await world.state(), world.uploads) == (("failed", None), [])


async def test_a_source_that_is_away_too_long_is_given_up(world: World) -> None:
    world.fetching = [away(), away()]
    await world.work()
    world.now += PATIENCE
    await world.work(2)
    assert "could not be brought here" in str((await world.said())[-1]["body"])
    assert (await world.state())[0] == "failed"


async def test_a_homeserver_that_is_away_gets_the_same_bytes_at_the_same_address(world: World) -> None:
    world.uploading = [HomeserverError("away", retry=True)] * (TOLD_AT + 1)
    await world.work(TOLD_AT + 3)
    assert set(world.uploads) == {("mxc://nightbell.test/0", b"FFIR fo ggO")}
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA]
    assert await world.said(OPERATIONS) == []  # its outage is told by itself


async def test_a_file_that_the_homeserver_does_not_take_is_told_of(world: World) -> None:
    world.uploading = [HomeserverError("the homeserver answers 413 M_TOO_LARGE", retry=False)]
    await world.work(2)
    assert "413 M_TOO_LARGE" in str((await world.said())[0]["body"])
    assert (await world.state())[0] == "failed"


async def test_an_address_that_has_expired_is_made_anew(world: World) -> None:
    world.uploading = [False]
    await world.work(3)
    assert [mxc for mxc, _ in world.uploads] == ["mxc://nightbell.test/0", "mxc://nightbell.test/1"]
    [audio] = await world.said()
    assert audio["file"] == {"key": "k", "url": "mxc://nightbell.test/1"}


async def test_a_recording_of_nothing_is_said_to_be_empty(world: World) -> None:
    world.milliseconds = 0
    await world.work(2)
    assert [said["body"] for said in await world.said()] == ["The recording is empty."]
    assert world.uploads == []


async def test_what_its_source_does_not_delete_is_told_of_once_and_tried_again(world: World) -> None:
    world.removing = [away() for _ in range(TOLD_AT + 1)]
    await world.work(2)
    await world.said()
    await world.work(TOLD_AT + 3)
    [told] = await world.said(OPERATIONS)
    assert "can't be deleted at its source" in str(told["body"])
    assert (world.removed, (await world.state())[1]) == (1, "gone")


async def test_what_was_said_follows_the_recording_and_is_called_unverified(world: World) -> None:
    world.heard = ["Please call back room twelve"]
    await world.work(4)
    audio, note = await world.said()
    assert audio["purpose"] == Purpose.MEDIA
    assert note["body"] == "Unverified transcript, made by a machine: Please call back room twelve"
    await world.work(2)
    assert await world.said() == []


async def test_a_transcription_that_fails_delays_and_costs_nothing(world: World) -> None:
    world.heard = [MediaError("transcription took too long", retry=True)] * 3
    await world.work(3)
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA]
    await world.work(4)
    assert await world.said() == []
    [told] = await world.said(OPERATIONS)
    assert "was not transcribed (transcription took too long)" in str(told["body"])
    assert world.heard == []


async def test_one_that_succeeds_later_is_said_later(world: World) -> None:
    world.heard = [MediaError("transcription took too long", retry=True), "Room twelve"]
    await world.work(5)
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA, Purpose.NOTE]


async def test_one_that_does_not_open_keeps_no_other_from_its_room(world: World) -> None:
    async with world.database.write() as connection:
        await connection.execute(update(tables.attachment).values(sealed=b"changed"))
    await open_page(world.database, world.keys, world.inbox, "2", THERE)
    await world.work(2)
    assert [said["purpose"] for said in await world.said()] == [Purpose.MEDIA]
    [told] = await world.said(OPERATIONS)
    assert "does not open" in str(told["body"])
