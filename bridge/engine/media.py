"""Recordings, pictures and files: fetched, made playable, encrypted, uploaded, put into the threads of their pages.

A page never waits for what belongs to it. Each stage is a row before the next begins: the ciphertext before it is
uploaded, its address before anything is there, the message in the outbox under a transaction that follows from both.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html import escape
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import operations
from bridge.engine.messages import message
from bridge.model.attachment import Attachment
from bridge.model.doors import EncryptedFile, Fetched, MediaRepository, MediaSource, Recording
from bridge.model.errors import HomeserverError, MediaError, StoreUnavailableError
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.policy.rendering import PageText
from bridge.store import attachments, outbox
from bridge.store.attachments import Locked, Unposted, Untranscribed, Waiting
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.outbox import Draft, Purpose

AT_ONCE = 4
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
PATIENCE = timedelta(hours=12)  # since the event came; a source that long away has lost it
TOLD_AT = 4  # attempts: what a moment mends is nobody's concern
TRANSCRIPT_ATTEMPTS = 3
LONGEST_NAME = 100
PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is uploaded, and how a message shows it."""

    file: Phi[bytes]
    message: Phi[bytes]


class Media:
    """Works on a few at once."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        sources: Mapping[ChannelId, MediaSource],
        repository: MediaRepository,
        playable: Callable[[Phi[bytes]], Awaitable[Recording]],
        *,
        now: Callable[[], datetime],
        decided: Callable[[], None],
        wake: Callable[[], None],
        transcribe: Callable[[Phi[bytes]], Awaitable[Phi[str]]] | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._sources = sources
        self._repository = repository
        self._playable = playable
        self._now = now
        self._decided = decided
        self._wake = wake
        self._transcribe = transcribe
        self._busy: set[str] = set()
        self._writing = False

    async def step(self, group: asyncio.TaskGroup) -> float | None:
        """Put what is uploaded into threads; start a task for what waits, and for what is to go from its source."""
        await self._post()
        if self._transcribe is not None and not self._writing:
            self._writing = True
            group.create_task(self._write_down(self._transcribe), name="transcribe")
        free = AT_ONCE - len(self._busy)
        if free <= 0:
            return None
        async with self._database.read() as connection:
            now, keys = self._now(), self._keys
            due = await attachments.waiting(connection, keys, now, but=self._busy, limit=free)
            sent = await attachments.to_remove(connection, keys, now, AT_ONCE)
        for each in due:
            if isinstance(each, Locked):
                await self._tell_of_locked(each)
        waiting = [each for each in due if isinstance(each, Waiting)]
        gone = [one for one in sent if one.id not in self._busy][: free - len(waiting)]
        for one, work in [*((one, self._bring) for one in waiting), *((one, self._remove) for one in gone)]:
            self._busy.add(one.id)
            group.create_task(self._work(one, work), name=f"media {one.id}")
        return FIRST_PAUSE.total_seconds() if due else None

    async def _tell_of_locked(self, one: Locked) -> None:
        """One that does not open must keep no other from its room."""
        log.error("attachment_locked", attachment=one.id, channel=one.channel)
        said = f"⚠️ {one.channel}: what belongs to a page does not open: row {one.id} was changed. Ask its source."
        async with self._database.write() as connection:
            await attachments.mark_failed(connection, one, "it does not open")
            await operations.tell(connection, self._keys, said, self._now())
        self._decided()

    async def _work(self, one: Waiting, work: Callable[[Waiting], Awaitable[None]]) -> None:
        try:
            await work(one)
        except StoreUnavailableError as error:  # its rows are as they were
            log.warning("media_waits_for_the_store", attachment=one.id, reason=str(error))
        except Exception as error:
            log.exception("media_failed", attachment=one.id, error=type(error).__name__)
        finally:
            self._busy.discard(one.id)
            self._wake()

    async def _write_down(self, transcribe: Callable[[Phi[bytes]], Awaitable[Phi[str]]]) -> None:
        """One recording at a time, and after everything else: a transcript is a help, and the recording the message."""
        try:
            while True:
                async with self._database.read() as connection:
                    one = await attachments.untranscribed(connection, self._keys, self._now())
                if one is None:
                    return
                await self._write_one(one, transcribe)
        except StoreUnavailableError as error:
            log.warning("transcript_waits_for_the_store", reason=str(error))
        except Exception as error:
            log.exception("transcription_failed", error=type(error).__name__)
        finally:
            self._writing = False

    async def _write_one(
        self, one: Untranscribed, transcribe: Callable[[Phi[bytes]], Awaitable[Phi[str]]]
    ) -> None:
        opening = Phi(json.dumps(json.loads(one.content.reveal())["file"]).encode())
        try:
            recording = await asyncio.to_thread(
                self._repository.decrypt_file, EncryptedFile(one.file, opening)
            )
            text = await transcribe(recording)
        except MediaError as error:
            log.warning("transcript_failed", attachment=one.id, reason=str(error))
            async with self._database.write() as connection:
                if error.retry and one.attempts + 1 < TRANSCRIPT_ATTEMPTS:
                    await attachments.postpone_transcript(connection, one, self._now() + LONGEST_PAUSE)
                    return
                await attachments.end_transcript(connection, one, "failed")
                said = f"⚠️ {one.channel}: a recording was not transcribed ({error}); it is in its room"
                await operations.tell(connection, self._keys, said, self._now())
        else:
            async with self._database.write() as connection:
                if await attachments.end_transcript(connection, one, "done"):
                    words = text.reveal() or "nothing understood"
                    await self._note(connection, one, f"Unverified transcript, made by a machine: {words}")
        self._decided()

    async def _bring(self, one: Waiting) -> None:
        try:
            if one.file is None:
                one = await self._encrypt(one)
            if one.file is not None:
                await self._upload(one, one.file)
        except HomeserverError as error:
            await self._put_off(one, str(error), retry=error.retry, tell=not error.retry)
        except MediaError as error:
            await self._put_off(one, str(error), retry=error.retry)
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("media_failed", attachment=one.id, error=type(error).__name__)
            reason = f"a fault of the bridge, {type(error).__name__}; its log says where"
            await self._put_off(one, reason, retry=True)

    async def _encrypt(self, one: Waiting) -> Waiting:
        """Fetch, convert and encrypt. Without a file if there is nothing to hear in it."""
        assert one.attachment is not None  # noqa: S101 - it has no file yet, so that it has this
        fetched = await self._fetch(one.channel, one.attachment)
        recording, trouble = await self._converted(fetched)
        if recording is not None and recording.milliseconds == 0:
            async with self._database.write() as connection:
                await attachments.mark_failed(connection, one, "it is empty")
                await self._note(connection, one, "The recording is empty.")
            self._decided()
            return one
        shown = _shown(fetched, recording, one.attachment.name)
        file = await asyncio.to_thread(self._repository.encrypt_file, shown.file)
        content = json.loads(shown.message.reveal()) | {"file": json.loads(file.opening.reveal())}
        if fetched.place is not None:
            one = replace(one, attachment=replace(one.attachment, place=fetched.place))
        source = self._sources.get(one.channel)
        remove = source is not None and source.remove is not None
        async with self._database.write() as connection:
            sealed = Phi(json.dumps(content, ensure_ascii=False).encode())
            await attachments.keep_file(
                connection,
                one,
                sealed,
                file.ciphertext,
                remove=remove,
                transcribe=recording is not None and self._transcribe is not None,
            )
            if trouble is not None:
                said = f"A recording can't be made playable ({trouble}); it stands here as it came."
                await self._note(connection, one, said)
                await operations.tell(connection, self._keys, f"⚠️ {one.channel}: {said}", self._now())
        return replace(one, file=file.ciphertext)

    async def _fetch(self, channel: ChannelId, attachment: Attachment) -> Fetched:
        if attachment.content is not None:
            return Fetched(attachment.content, attachment.type)
        source = self._sources.get(channel)
        if source is None:
            raise MediaError(f"nightbell.yaml does not say how channel {channel} is asked for it", retry=True)
        fetched = await source.fetch(attachment)
        return replace(fetched, type=fetched.type or attachment.type)

    async def _converted(self, fetched: Fetched) -> tuple[Recording | None, str | None]:
        """The recording, if it is one; or why it could not be made playable."""
        if not fetched.type.startswith("audio/"):
            return None, None
        try:
            return await self._playable(fetched.content), None
        except MediaError as error:
            return None, str(error)

    async def _upload(self, one: Waiting, file: bytes) -> None:
        mxc = one.mxc
        if mxc is None:
            mxc = await self._repository.reserve_file()
            async with self._database.write() as connection:
                if not await attachments.keep_address(connection, one, mxc):
                    return
        if not await self._repository.upload_file(mxc, file):
            async with self._database.write() as connection:
                await attachments.keep_address(connection, one, None)
            raise MediaError("the homeserver does not know its address any more", retry=True)
        async with self._database.write() as connection:
            await attachments.mark_uploaded(connection, one)
        log.info("media_uploaded", attachment=one.id, bytes=len(file))

    async def _post(self) -> None:
        async with self._database.read() as connection:
            if not await attachments.unposted(connection, self._keys):
                return
        async with self._database.write() as connection:
            missing = await attachments.unposted(connection, self._keys)
            await outbox.put(connection, [_draft(one) for one in missing], self._now())
        self._decided()

    async def _remove(self, one: Waiting) -> None:
        source = self._sources.get(one.channel)
        try:
            if source is not None and source.remove is not None and one.attachment is not None:
                await source.remove(one.attachment)
        except MediaError as error:
            async with self._database.write() as connection:
                await self._postpone(connection, one, str(error))
                if one.attempts + 1 == TOLD_AT:
                    text = f"⚠️ {one.channel}: a recording can't be deleted at its source ({error}); it is tried again"
                    await operations.tell(connection, self._keys, text, self._now())
            self._decided()
            return
        async with self._database.write() as connection:
            await attachments.mark_removed(connection, one)
        log.info("media_removed_at_source", attachment=one.id, channel=one.channel)

    async def _put_off(self, one: Waiting, reason: str, *, retry: bool, tell: bool = True) -> None:
        """Try again later; or never, and then its page says so."""
        lost = not retry or self._now() - one.received_at > PATIENCE
        log.warning("media_postponed", attachment=one.id, channel=one.channel, reason=reason, lost=lost)
        said = None
        if lost:
            said = f"What belongs to this page could not be brought here ({reason}). Ask its source for it."
        elif tell and one.attempts + 1 == TOLD_AT:
            said = (
                f"A recording, picture or file of this page can't be had yet ({reason}); it is tried again."
            )
        async with self._database.write() as connection:
            if lost:
                await attachments.mark_failed(connection, one, reason)
            else:
                await self._postpone(connection, one, reason)
            if said is not None:
                await self._note(connection, one, said)
                await operations.tell(connection, self._keys, f"⚠️ {one.channel}: {said}", self._now())
        if said is not None:
            self._decided()

    async def _postpone(self, connection: AsyncConnection, one: Waiting, reason: str) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(one.attempts, 10), LONGEST_PAUSE)
        await attachments.postpone(connection, one, self._now() + pause, reason)

    async def _note(self, connection: AsyncConnection, one: Waiting | Untranscribed, text: str) -> None:
        said = message(PageText(Phi(text), Phi(escape(text)), (), notice=True))
        drafts = [
            Draft(
                place.destination,
                Purpose.NOTE,
                said,
                one.key,
                urgency=place.urgency,
                page=place.page,
                target=place.message,
            )
            for place in await attachments.places(connection, one.intake)
        ]
        await outbox.put(connection, drafts, self._now())


def _draft(one: Unposted) -> Draft:
    content = json.loads(one.content.reveal())
    content["file"]["url"] = one.mxc
    return Draft(
        one.place.destination,
        Purpose.MEDIA,
        Phi(json.dumps(content, ensure_ascii=False).encode()),
        one.key,
        urgency=one.place.urgency,
        page=one.place.page,
        target=one.place.message,
        transaction=one.transaction,
    )


def _shown(fetched: Fetched, recording: Recording | None, name: Phi[str] | None) -> _Shown:
    if recording is not None:
        return _Shown(recording.content, _dump(_voice_message(recording)))
    kind = (
        fetched.type
        if re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", fetched.type)
        else "application/octet-stream"
    )
    picture = kind in PICTURES
    content = {
        "msgtype": "m.image" if picture else "m.file",
        "body": _safe(name) or ("Picture" if picture else "File"),
        "info": {"mimetype": kind, "size": len(fetched.content.reveal())},
        "m.mentions": {},
    }
    return _Shown(fetched.content, _dump(content))


def _voice_message(recording: Recording) -> dict[str, Any]:
    """An `m.audio` that clients show as a voice message (MSC3245, with the loudness of MSC1767)."""
    minutes, seconds = divmod(round(recording.milliseconds / 1000), 60)
    return {
        "msgtype": "m.audio",
        "body": f"Recording {minutes}:{seconds:02}",
        "info": {
            "mimetype": "audio/ogg",
            "size": len(recording.content.reveal()),
            "duration": recording.milliseconds,
        },
        "org.matrix.msc1767.audio": {
            "duration": recording.milliseconds,
            "waveform": list(recording.waveform),
        },
        "org.matrix.msc3245.voice": {},
        "m.mentions": {},
    }


def _safe(name: Phi[str] | None) -> str:
    """A file's name as it may be shown: without control characters, directories, and the end of a long one."""
    text = re.split(r"[/\\]", name.reveal())[-1] if name is not None else ""
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST_NAME].strip()


def _dump(content: dict[str, Any]) -> Phi[bytes]:
    return Phi(json.dumps(content, ensure_ascii=False).encode())
