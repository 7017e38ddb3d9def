"""A telephone system in one file: it speaks AMI, and tells of two calls as an Asterisk does.

What it says is made from what a real Asterisk was heard to say; the recording is one that it made.
"""

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path

from bridge.channels.ami import Message, read_message
from demo.wire import Told

CALLS = Path(__file__).parent / "calls"
SECRET = "demo"
BETWEEN_SECONDS = 0.02  # events, so that they are seen to come one after the other
CHANNEL = """channels:
  pbx:
    type: asterisk
    host: 127.0.0.1
    port: {port}
    username: nightbell
    secret: file:{secret}
    spool: {spool}
    region: US
"""


class Pbx:
    """An exchange with one mailbox, and a connection to whoever manages it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connected = asyncio.Event()
        self._line: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen for the bridge."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)

    async def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
        if self._server is not None:
            self._server.close()

    def configured(self, config: Path) -> Path:
        """A configuration like this one, with the exchange as one more channel."""
        assert self._server is not None  # noqa: S101 - it is open
        copy, secret = self._directory / "config", self._directory / "secret"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(config, copy)
        secret.write_text(SECRET)
        port = self._server.sockets[0].getsockname()[1]
        channel = CHANNEL.format(port=port, secret=secret, spool=self._directory / "spool")
        main = copy / "nightbell.yaml"
        main.write_text(main.read_text().replace("channels:\n", channel, 1))
        return copy

    async def abandoned(self) -> Told:
        """A caller waits in a queue, and gives up."""
        return await self._tell("abandoned", round(time.time()))

    async def voicemail(self) -> Told:
        """A caller leaves a message."""
        now = round(time.time())
        folder = self._directory / "spool/default/100/INBOX"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(CALLS / "voicemail.WAV", folder / "msg0000.WAV")
        facts = (CALLS / "voicemail.txt").read_text().replace("BEGAN", str(now))
        (folder / "msg0000.txt").write_text(facts)
        return await self._tell("voicemail", now)

    async def _tell(self, call: str, now: int) -> Told:
        await self._connected.wait()
        assert self._line is not None  # noqa: S101 - it is connected
        said = (CALLS / f"{call}.ami").read_text().replace("BEGAN", str(now))
        began = time.monotonic()
        for event in said.strip().split("\n\n"):
            self._line.write(event.replace("\n", "\r\n").encode() + b"\r\n\r\n")
            await self._line.drain()
            await asyncio.sleep(BETWEEN_SECONDS)
        return Told(said.strip(), began)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._line = writer
        writer.write(b"Asterisk Call Manager/13.0.0\r\n")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                action = await read_message(reader)
                writer.write(_answer(action))
                if action.get("action") == "CoreShowChannels":
                    writer.write(b"Event: CoreShowChannelsComplete\r\n\r\n")
                    self._connected.set()


def _answer(action: Message) -> bytes:
    challenge = "Challenge: 577658150\r\n" if action.get("action") == "Challenge" else ""
    return f"Response: Success\r\nActionID: {action.get('actionid', '')}\r\n{challenge}\r\n".encode()
