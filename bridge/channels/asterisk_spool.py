"""Voicemail as Asterisk keeps it: msgNNNN.txt and, beside it, the sound in each of its formats.

A message's number is not its name: Asterisk numbers a mailbox anew when it is listened to. What stays is in the .txt:
the channel that it came from, and when.
"""

from __future__ import annotations

import asyncio
import json
import re
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count
from math import pi, sin
from pathlib import Path
from typing import TypeVar

from bridge.channels.fetching import FETCH_SECONDS, MAX_MEDIA
from bridge.model.attachment import Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

UNHEARD = ("INBOX", "Urgent")
FOLDERS = (*UNHEARD, "Old")
FORMATS = {
    "wav": "audio/x-wav",
    "WAV": "audio/x-wav",
    "ogg": "audio/ogg",
}  # the best first; others name no codec
RATE = 8000  # of samples in a second
LONGEST_CALL = 6 * 3600  # seconds from a call's begin to its message
MAX_TXT = 64 * 1024
LOOK_SECONDS = 2.0  # no page waits longer to know whether its message is empty

Facts = dict[str, str]
T = TypeVar("T")
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Message:
    """Which message is meant: by its mailbox, its call, and, once it was found, by what its .txt alone has."""

    mailbox: str  # 100@default
    file: str  # msg0001, as it was called when it was left; may be empty
    since: int  # seconds since 1970, by Asterisk's clock
    caller: str
    identity: str = ""
    channel: str = ""  # by which it was left, if records tell of it

    def attachment(self) -> Attachment:
        """Where its recording is, in this channel's terms."""
        return Attachment("audio/x-wav", place=Phi(json.dumps(asdict(self))))


@dataclass(frozen=True, slots=True)
class Lying:
    """A message that lies in a mailbox, and what its .txt tells of it."""

    message: Message
    caller: str = field(repr=False)
    caller_name: str = field(repr=False)
    is_empty: bool


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="spool")


@dataclass(frozen=True, slots=True)
class Spool:
    """A spool directory, read by threads of its own: one on a server that does not answer takes no other's."""

    directory: Path
    threads: ThreadPoolExecutor = field(default_factory=_threads)

    def media(self, *, remove: bool) -> MediaSource:
        """How recordings are had from it."""

        async def get(attachment: Attachment) -> Fetched:
            return await self._within(FETCH_SECONDS, _read, _message(attachment))

        async def take_away(attachment: Attachment) -> None:
            await self._within(FETCH_SECONDS, _delete, _message(attachment))

        return MediaSource(get, take_away if remove else None)

    async def newest(self, mailbox: str, count: int) -> list[Lying]:
        """The messages that came last of those that nobody has heard, the oldest first: so many, or fewer.

        A spool directory that can't be read has none.
        """
        try:
            return await self._within(LOOK_SECONDS, partial(_newest, count=count), mailbox)
        except (MediaError, OSError):
            return []

    async def is_empty(self, message: Message) -> bool:
        """Whether nothing was recorded. Of a message that is not to be found, it is not said."""
        try:
            _, facts = await self._within(LOOK_SECONDS, _find, message)
        except (MediaError, OSError):
            return False
        return facts.get("duration") == "0"

    async def _within(self, seconds: float, work: Callable[[Path, M], T], message: M) -> T:
        try:
            async with asyncio.timeout(seconds):
                working = asyncio.get_running_loop().run_in_executor(
                    self.threads, work, self.directory, message
                )
                return await working
        except TimeoutError:
            raise MediaError("the spool directory does not answer", retry=True) from None


def _message(attachment: Attachment) -> Message:
    assert attachment.place is not None  # noqa: S101 - or it would not be fetched
    return Message(**json.loads(attachment.place.reveal()))


def _read(spool: Path, message: Message) -> Fetched:
    try:
        text, facts = _find(spool, message)
        for ending, kind in FORMATS.items():
            file = text.with_suffix(f".{ending}")
            if not file.exists():
                continue
            if file.stat().st_size > MAX_MEDIA:
                too_large = f"it is larger than {MAX_MEDIA} bytes"
                raise MediaError(too_large, retry=False)
            found = replace(message, identity=_identity(facts)).attachment()
            return Fetched(Phi(file.read_bytes()), kind, found.place)
    except OSError as error:
        unreadable = f"the spool directory can't be read ({type(error).__name__})"
        raise MediaError(unreadable, retry=True) from None
    raise MediaError("beside the message's .txt there is none as wav, wav49 or ogg", retry=True)


def leave(spool: Path, mailbox: str, caller: str, at: int) -> None:
    """Leave a message of one second's tone, as Asterisk does; `at` is in seconds since 1970, by Asterisk's clock.

    Raises `MediaError` for a mailbox that is no name, and `OSError`.
    """
    number, context = _directory(mailbox)
    folder = spool / context / number / FOLDERS[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = next(f"msg{n:04}" for n in count() if not (folder / f"msg{n:04}.txt").exists())
    with wave.open(str(folder / f"{stem}.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        tone = (round(8000 * sin(2 * pi * 440 * n / RATE)) for n in range(RATE))
        sound.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in tone))
    facts = {"origmailbox": number, "context": context, "callerchan": "nightbell", "callerid": f"<{caller}>"}
    facts |= {"origtime": str(at), "msg_id": f"{at}-{stem}", "duration": "1"}
    lines = [";", "; Message Information file", ";", "[message]"]
    lines += [f"{name}={value}" for name, value in facts.items()]
    (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")  # last: by it the rest is found


def _delete(spool: Path, message: Message) -> None:
    if not message.identity:
        raise MediaError("it is not known which file it was", retry=False)
    try:
        for text, facts in _messages(spool, message.mailbox):
            if _identity(facts) == message.identity:
                for file in sorted(text.parent.glob(f"{text.stem}.*")):
                    if file != text:
                        file.unlink(missing_ok=True)
                text.unlink(missing_ok=True)  # last: by it the rest is found again
    except OSError as error:
        failed = f"the spool directory takes no deletion ({type(error).__name__})"
        raise MediaError(failed, retry=True) from None


def _find(spool: Path, message: Message) -> tuple[Path, Facts]:
    """The message's .txt. Rather none than another caller's."""
    fitting = [
        (text, facts)
        for text, facts in _messages(spool, message.mailbox)
        if message.identity in ("", _identity(facts)) and _fits(facts, message)
    ]

    def left_by(facts: Facts) -> bool:
        return bool(message.channel) and facts.get("callerchan") == message.channel

    fitting.sort(
        key=lambda each: (not left_by(each[1]), each[0].stem != message.file, int(each[1]["origtime"]))
    )
    certain = [
        (text, facts)
        for text, facts in fitting
        if message.identity or message.caller or text.stem == message.file or left_by(facts)
    ]
    if not certain and not spool.joinpath(*reversed(_directory(message.mailbox))).is_dir():
        raise MediaError("there is no such mailbox in the spool directory: check spool", retry=True)
    if not certain:
        raise MediaError("the mailbox has no message of this call", retry=True)
    return certain[0]


def _newest(spool: Path, mailbox: str, *, count: int) -> list[Lying]:
    # What a colleague forwards keeps the moment at which it was first left, so that this is not its order.
    lying = sorted(
        ((text.stat().st_mtime, text.stem, facts) for text, facts in _messages(spool, mailbox, UNHEARD)),
        key=lambda each: each[:2],
    )
    return [_lying(mailbox, facts) for _, _, facts in lying[-count:]]


def _lying(mailbox: str, facts: Facts) -> Lying:
    caller = re.fullmatch(r'(?:"(.*)" ?)?<(.*)>|([+*#\d]+)', facts.get("callerid", ""))
    return Lying(
        Message(mailbox, "", _seconds(facts) or 0, "", _identity(facts)),
        caller=(caller[2] or caller[3] or "") if caller else "",
        caller_name=(caller[1] or "") if caller else "",
        is_empty=facts.get("duration") == "0",
    )


def _fits(facts: Facts, message: Message) -> bool:
    at = _seconds(facts)
    if at is None or not message.since <= at <= message.since + LONGEST_CALL:
        return False
    return message.caller in facts.get("callerid", "")


def _seconds(facts: Facts) -> int | None:
    """When a message was left, since 1970."""
    at = facts.get("origtime", "")
    return int(at) if re.fullmatch("[0-9]{1,11}", at) else None


def _messages(spool: Path, mailbox: str, folders: Sequence[str] = FOLDERS) -> Iterator[tuple[Path, Facts]]:
    number, context = _directory(mailbox)
    for folder in folders:
        files: list[Path] = []
        with suppress(FileNotFoundError):  # Asterisk makes a folder with its first message
            files = sorted(
                (spool / context / number / folder).iterdir()
            )  # a glob is silent of what it may not read
        for text in (each for each in files if re.fullmatch(r"msg[0-9]+\.txt", each.name)):
            with text.open("rb") as opened:
                lines = opened.read(MAX_TXT).decode(errors="replace").splitlines()
            pairs = (line.partition("=") for line in lines if not line.startswith(";"))
            yield text, {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _directory(mailbox: str) -> tuple[str, str]:
    number, _, context = mailbox.partition("@")
    if not all(re.fullmatch(r"[\w+-][\w.+-]*", part) for part in (number, context)):
        raise MediaError("its mailbox has no name of a directory", retry=False)
    return number, context


def _identity(facts: Facts) -> str:
    return " ".join(facts.get(name, "") for name in ("origtime", "callerchan", "msg_id"))
