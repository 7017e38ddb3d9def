"""A small manager interface, in the place of an Asterisk's."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from bridge.channels.ami import Message, read_message
from tests.channels.signers import AMI_SECRET


@dataclass
class Pbx:
    """A manager interface: it lets the bridge in, answers its questions, and says what it is told to say."""

    answers: dict[str, bytes] = field(default_factory=dict)
    secret: str = AMI_SECRET
    overheard: Callable[[Message], Awaitable[None]] | None = None  # before it is answered
    port: int = 0
    logins: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    talks: int = 0  # that go on

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Asterisk Call Manager/13.0.0\r\n")
        self.writers.append(writer)
        self.talks += 1
        try:
            while True:
                action = await read_message(reader)
                if self.overheard is not None:
                    await self.overheard(action)
                writer.write(self.answer(action))
                if action["action"] == "VoicemailUsersList":
                    self.connected.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.talks -= 1

    def answer(self, action: Message) -> bytes:
        name, number = action["action"], action.get("actionid", "")
        if name == "Challenge":
            return reply("Success", number, "Challenge: 577658150\r\n")
        if name == "Login":
            self.logins += 1
            right = hashlib.md5(b"577658150" + self.secret.encode()).hexdigest()  # noqa: S324 - AMI's
            good = action.get("key") == right or action.get("secret") == self.secret
            return reply("Success" if good else "Error", number)
        if name == "UserEvent" and name not in self.answers:
            self.announce(action)
            return reply("Success", number, "Message: Event Sent\r\n")
        if name in self.answers:
            return self.answers[name]
        return reply("Success", number) + (
            b"Event: CoreShowChannelsComplete\r\n\r\n" if name == "CoreShowChannels" else b""
        )

    def announce(self, action: Message) -> None:
        """Say an event to all who are there, with the action's fields, as in captures/asterisk/actions.ami.txt."""
        lines = [
            "Event: UserEvent",
            "Privilege: user,all",
            "Timestamp: 1795492939.087721",
            "SystemName: pbx1",
        ]
        lines += [f"UserEvent: {action['userevent']}"]
        lines += [f"{name}: {value}" for name, value in action.items() if name not in ("action", "userevent")]
        for writer in self.writers:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def hang_up(self) -> None:
        self.connected.clear()
        for writer in self.writers:
            writer.close()
        self.writers.clear()


def reply(response: str, number: str, more: str = "") -> bytes:
    return f"Response: {response}\r\nActionID: {number}\r\n{more}\r\n".encode()


@asynccontextmanager
async def pbx(made: Pbx, tls: ssl.SSLContext | None = None) -> AsyncIterator[Pbx]:
    server = await asyncio.start_server(made.talk, "127.0.0.1", made.port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        # One that was just let in begins to talk: asyncio drops it unclosed if its server is closed in that moment.
        await asyncio.sleep(0.01)
        server.close()
        await made.hang_up()
        async with asyncio.timeout(5):
            while made.talks:
                await asyncio.sleep(0.005)
