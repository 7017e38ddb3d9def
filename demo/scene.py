"""One event on its way: from the call center through the homeserver to whoever is on call, and back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
from rich.console import Console, Group, RenderableType
from rich.rule import Rule

from demo import panels
from demo.cast import Cast
from demo.sound import Heard, hear
from demo.state import DemoError
from demo.stored import Search, Stored, newest, search, stored_after
from demo.waiting import Steps, shown
from demo.wire import Exchange, Told, exchange
from testbed.callcenter import Answer
from testbed.clinician import Message, Reaction
from testbed.hospital import Hospital

ACCEPT = "✅"
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.05

Send = Callable[[aiohttp.ClientSession], Awaitable[Answer]]
Call = Callable[[], Awaitable[Told]]
T = TypeVar("T")


class Scene:
    """Drawn anew, each time, from what the three sides hold at that moment."""

    def __init__(self, console: Console, hospital: Hospital, cast: Cast, title: str, words: str) -> None:
        self._console = console
        self._title = title
        self._synapse = hospital.synapse
        self._bot = hospital.bot
        self._cast = cast
        self._words = words
        self._steps = Steps(console)
        self._position = 0
        self._sent: Exchange | Told | None = None
        self._first: Message | None = None
        self._search: Search | None = None
        self._heard: Heard | None = None

    async def play(self, send: Send) -> None:
        """Send the event and follow it until it is accepted. Raises DemoError if it does not get that far."""

        async def request() -> Exchange:
            made = await exchange(send)
            if not made.answer.accepted:
                raise DemoError(f"the bridge answered {made.answer}")
            return made

        await self._follow("the bridge's answer to the call center", request)

    async def play_call(self, call: Call, recording: Path | None = None) -> None:
        """Let a call happen and follow it until it is accepted and, if it left a message, heard."""
        await self._follow("the exchange to tell of the call", call, recording)

    async def _follow(
        self, first: str, begin: Callable[[], Awaitable[Exchange | Told]], recording: Path | None = None
    ) -> None:
        name = self._cast.reader_name
        client = self._cast.client
        self._position = newest(self._synapse.database_path)
        async with shown(self._console, self._steps, lambda: self.frame(self._console.width)):
            self._steps(first)
            self._sent = await begin()
            await self._until("the ciphertext in the homeserver's database", self._stored)
            self._first = await self._until(f"{name}'s client to decrypt it", self._message)
            await self._until(f"the bridge's own {ACCEPT} under it", lambda: self._taps(self._bot))
            await client.react(self._first.event_id, ACCEPT)
            await self._until(f"{name}'s {ACCEPT} in the homeserver's database", self._tapped)
            await self._until("the message to say who has it", self._accepted)
            if recording is not None:
                audio = await self._until(f"{name}'s client to decrypt the recording", self._recording)
                self._heard = await hear(client, audio, recording)
            self._steps.done()
            self._search = search(self._synapse.directory, self._words)
        if self._search.found:
            raise DemoError("the patient's words stand in the homeserver's files")

    def frame(self, width: int) -> RenderableType:
        """The three panels and the steps."""
        sent = self._sent
        began = sent.began if sent else None
        return Group(
            Rule(self._title, align="left"),
            panels.three(
                panels.told(sent) if isinstance(sent, Told) else panels.sent(sent),
                panels.stored(self._stored(), self._search),
                panels.read(
                    self._first, self._message(), self._taps(self._cast.client.user_id), began, self._heard
                ),
                self._cast.reader_name,
                width,
            ),
            self._steps,
        )

    async def _until(self, what: str, look: Callable[[], T | None]) -> T:
        self._steps(what)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (found := look()):
                    await asyncio.sleep(LOOK_SECONDS)
                return found
        except TimeoutError:
            raise DemoError(f"waited {PATIENCE_SECONDS} s in vain for {what}") from None

    def _stored(self) -> list[Stored]:
        """What the homeserver has of this page; what an earlier one still brings is left out."""
        room = self._cast.room
        after = stored_after(self._synapse.database_path, self._position)
        here = [event for event in after if event.room_id == room]
        pages = {event.event_id for event in here if not event.relation}
        return [event for event in here if not event.relation or event.relation.get("event_id") in pages]

    def _message(self) -> Message | None:
        """The page's message, which an earlier run's with the same words is not."""
        here = {event.event_id for event in self._stored()}
        messages = self._cast.client.messages
        return next((m for m in messages if m.event_id in here and self._words in m.body), None)

    def _recording(self) -> Message | None:
        first = self._first
        return next(
            (
                m
                for m in self._cast.client.messages
                if first
                and m.content.get("msgtype") == "m.audio"
                and m.content.get("m.relates_to", {}).get("event_id") == first.event_id
            ),
            None,
        )

    def _taps(self, sender: str) -> list[Reaction]:
        first = self._first
        return [
            tap
            for tap in self._cast.client.reactions
            if first and tap.target == first.event_id and tap.sender == sender
        ]

    def _tapped(self) -> Stored | None:
        user = self._cast.client.user_id
        return next((event for event in self._stored() if event.sender == user), None)

    def _accepted(self) -> Message | None:
        message = self._message()
        said = f"Accepted by {self._cast.reader_name}"
        return message if message and said in message.body else None
