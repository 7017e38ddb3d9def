"""A test event at an Asterisk: it is asked to say one to all who listen, the running bridge among them.

AMI's action UserEvent; its user needs `user` in `read` and `write` of manager.conf (docs/channels/asterisk.md).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.channels.ami import ANSWER_SECONDS, AmiRefusedError, Message, read_message, write_action
from bridge.channels.asterisk import AsteriskSettings, logged_in
from bridge.channels.asterisk_spool import leave
from bridge.channels.channel import NoSampleError, Probe
from bridge.model.errors import MediaError
from bridge.model.event import EventKind

CONTEXT = "nightbell"  # whose mailboxes in the spool directory are nobody's


async def announce(settings: AsteriskSettings, probe: Probe) -> str:
    """Have Asterisk say the event, and hear it as the bridge does. A voicemail's recording is laid beside it.

    Raises `NoSampleError`, `OSError` and `TimeoutError`.
    """
    said = {
        "ActionID": probe.key,
        "UserEvent": "Nightbell",
        "CallerIDNum": probe.caller,
        "CallerIDName": probe.caller_name,
        "Recipient": probe.recipient,
        "Body": probe.text,
    }
    mailbox = f"{probe.recipient}@{CONTEXT}"
    voicemail = probe.kind is EventKind.VOICEMAIL
    if voicemail and settings.spool is None:
        raise NoSampleError("a voicemail needs this channel's spool, in which its recording is left")
    try:
        async with logged_in(settings, settings.secret.read_text()) as (reader, writer):
            own = {"Mailbox": mailbox} if voicemail else {}
            write_action(
                writer, "UserEvent", **{name: " ".join(text.split()) for name, text in (said | own).items()}
            )
            heard = await _heard(reader, probe.key)
    except AmiRefusedError as error:
        raise NoSampleError(str(error)) from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise NoSampleError("what answers there closed the connection, or does not speak AMI") from None
    if voicemail and settings.spool is not None:
        await asyncio.to_thread(_leave, settings.spool, mailbox, probe, heard)
    return "Asterisk has said it to all who listen"


async def _heard(reader: asyncio.StreamReader, key: str) -> Message:
    """The event as it comes back, which it does if it comes to the bridge: both are the same user."""
    allowed = False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                message = await read_message(reader)
                if message.get("actionid") != key:
                    continue
                if message.get("event") == "UserEvent":
                    return message
                if message.get("response") == "Error":
                    raise NoSampleError(
                        "Asterisk does not allow it: add user to the write of this user in manager.conf"
                    )
                allowed = True
    except TimeoutError:
        if not allowed:
            raise
    raise NoSampleError(
        "Asterisk has said it, and not to us: add user to the read of this user in manager.conf"
    )


def _leave(spool: Path, mailbox: str, probe: Probe, heard: Message) -> None:
    # By Asterisk's own clock, as it writes the time of a message.
    moment = heard.get("timestamp", "").partition(".")[0]
    at = int(moment) if moment.isdecimal() else int(probe.at.timestamp())
    try:
        leave(spool, mailbox, probe.caller, at + 1)
    except MediaError:
        raise NoSampleError("a mailbox has a name of letters and digits: choose another --to") from None
