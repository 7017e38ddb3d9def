"""The wire of Asterisk's manager interface: blocks of `Name: value`, each ended by an empty line.

Written here and not taken from panoramisk, which runs tasks of its own, reconnects for ever without a word, and
bounds neither time nor size; what is needed of the protocol are the few functions below.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from hashlib import md5

MAX_MESSAGE = 256 * 1024  # bytes
ANSWER_SECONDS = 10.0

# Fields by their names in lower case: Asterisk itself writes both Linkedid and LinkedID.
Message = Mapping[str, str]


class AmiRefusedError(Exception):
    """Asterisk does not let the bridge in. The message says why, and holds nothing that a caller wrote."""


async def read_block(reader: asyncio.StreamReader) -> bytes:
    """The next message. Raises `IncompleteReadError` at the end, `LimitOverrunError` for an endless one."""
    return await reader.readuntil(b"\r\n\r\n")


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message, parsed. Raises as `read_block`."""
    return parse_message(await read_block(reader))


def parse_message(block: bytes) -> Message:
    """The fields of one message; of a repeated one the last. The banner before the first is passed over."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode("cp1252", errors="replace")
    fields = (line.partition(":") for line in text.split("\r\n"))
    return {name.lower(): value.removeprefix(" ") for name, colon, value in fields if colon}


def write_action(writer: asyncio.StreamWriter, name: str, **fields: str) -> None:
    """Send an action. Its values are the operator's own, and have no line ends."""
    lines = [f"Action: {name}", *(f"{field}: {value}" for field, value in fields.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())


@asynccontextmanager
async def connected(
    host: str, port: int, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end. Raises `OSError` and `TimeoutError`."""
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=MAX_MESSAGE)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


async def log_in(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str, secret: str, *, md5_login: bool
) -> None:
    """Log in, and ask for events. Raises `AmiRefusedError`, `TimeoutError`."""
    async with asyncio.timeout(ANSWER_SECONDS):
        if md5_login:
            write_action(writer, "Challenge", AuthType="MD5", ActionID="challenge")
            challenge = (await _answer(reader, "challenge")).get("challenge", "")
            key = md5((challenge + secret).encode(), usedforsecurity=False).hexdigest()
            proof = {"AuthType": "MD5", "Key": key}
        else:
            proof = {"Secret": secret}
        write_action(writer, "Login", ActionID="login", Username=username, Events="on", **proof)
        await _answer(reader, "login")


async def _answer(reader: asyncio.StreamReader, action: str) -> Message:
    while True:
        message = await read_message(reader)
        if message.get("actionid") == action and "response" in message:
            break
    if message["response"] != "Success":
        raise AmiRefusedError(
            "Asterisk refused the login: check username, secret, and permit in manager.conf"
        )
    return message
