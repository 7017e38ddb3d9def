"""Voicemail as Asterisk keeps it: msgNNNN.txt and, beside it, the sound in each of its formats.

A message's number is not its name: Asterisk numbers a mailbox anew when it is listened to. What stays is in the .txt:
the channel that it came from, and when.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bridge.channels.fetching import MAX_MEDIA
from bridge.model.attachment import Attachment
from bridge.model.doors import Fetched, MediaSource
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

FOLDERS = ("INBOX", "Urgent", "Old")
FORMATS = {
    "wav": "audio/x-wav",
    "WAV": "audio/x-wav",
    "ogg": "audio/ogg",
}  # the best first; others name no codec
LONGEST_CALL = 6 * 3600  # seconds from a call's begin to its message
MAX_TXT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """Which message is meant: by its mailbox, its call, and, once it was found, by what its .txt alone has."""

    mailbox: str  # 100@default
    file: str  # msg0001, as it was called when it was left; may be empty
    since: int  # seconds since 1970, by Asterisk's clock
    caller: str
    identity: str = ""

    def attachment(self) -> Attachment:
        """Where its recording is, in this channel's terms."""
        return Attachment("audio/x-wav", place=Phi(json.dumps(asdict(self))))


def media_source(spool: Path, *, remove: bool) -> MediaSource:
    """How recordings are had from a spool directory."""

    async def get(attachment: Attachment) -> Fetched:
        return await asyncio.to_thread(_read, spool, _message(attachment))

    async def take_away(attachment: Attachment) -> None:
        await asyncio.to_thread(_delete, spool, _message(attachment))

    return MediaSource(get, take_away if remove else None)


def _message(attachment: Attachment) -> Message:
    assert attachment.place is not None  # noqa: S101 - or it would not be fetched
    return Message(**json.loads(attachment.place.reveal()))


def _read(spool: Path, message: Message) -> Fetched:
    try:
        text, identity = _find(spool, message)
        for ending, kind in FORMATS.items():
            file = text.with_suffix(f".{ending}")
            if not file.exists():
                continue
            if file.stat().st_size > MAX_MEDIA:
                too_large = f"it is larger than {MAX_MEDIA} bytes"
                raise MediaError(too_large, retry=False)
            found = replace(message, identity=identity).attachment()
            return Fetched(Phi(file.read_bytes()), kind, found.place)
    except OSError as error:
        unreadable = f"the spool directory can't be read ({type(error).__name__})"
        raise MediaError(unreadable, retry=True) from None
    raise MediaError("beside the message's .txt there is none as wav, wav49 or ogg", retry=True)


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


def _find(spool: Path, message: Message) -> tuple[Path, str]:
    """The message's .txt. Rather none than another caller's."""
    fitting = [
        (text, facts)
        for text, facts in _messages(spool, message.mailbox)
        if message.identity in ("", _identity(facts)) and _fits(facts, message)
    ]
    fitting.sort(key=lambda each: (each[0].stem != message.file, int(each[1]["origtime"])))
    certain = [each for each in fitting if message.caller or each[0].stem == message.file]
    if not certain:
        raise MediaError("the mailbox has no message of this call", retry=True)
    text, facts = certain[0]
    return text, _identity(facts)


def _fits(facts: dict[str, str], message: Message) -> bool:
    at = facts.get("origtime", "")
    if not at.isdecimal() or not message.since <= int(at) <= message.since + LONGEST_CALL:
        return False
    return message.caller in facts.get("callerid", "")


def _messages(spool: Path, mailbox: str) -> Iterator[tuple[Path, dict[str, str]]]:
    number, _, context = mailbox.partition("@")
    if not all(re.fullmatch(r"[\w+-][\w.+-]*", part) for part in (number, context)):
        raise MediaError("its mailbox has no name of a directory", retry=False)
    for folder in FOLDERS:
        for text in sorted((spool / context / number / folder).glob("msg[0-9]*.txt")):
            with text.open("rb") as opened:
                lines = opened.read(MAX_TXT).decode(errors="replace").splitlines()
            pairs = (line.partition("=") for line in lines if not line.startswith(";"))
            yield text, {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _identity(facts: dict[str, str]) -> str:
    return " ".join(facts.get(name, "") for name in ("origtime", "callerchan", "msg_id"))
