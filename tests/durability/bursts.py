"""Bursts of texts, bridges with short lives, and what became of it in the rooms."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from testbed.callcenter import Sms, until_accepted
from testbed.clinician import Clinician
from testbed.hospital import Hospital

Json = dict[str, Any]
JITTER = 0.06  # seconds; about what one message takes, so that a kill falls anywhere within it
STARTING = 1.2  # seconds; about what the bridge takes to start


@dataclass
class Burst:
    """So many texts, one after the other, each sent again until it is accepted, and a clinician who reads them."""

    hospital: Hospital
    reader: Clinician
    size: int
    to: str
    mark: str = field(default_factory=lambda: f"burst-{secrets.token_hex(4)}")
    accepted: int = 0

    @property
    def texts(self) -> list[str]:
        return [f"{self.mark} {number:03}" for number in range(self.size)]

    @property
    def seen(self) -> list[str]:
        """The texts that stand in the room, in its order."""
        lines = [line for message in self.reader.messages for line in message.body.splitlines()]
        return [line for line in lines if line.startswith(self.mark)]

    @property
    def stored(self) -> list[Json]:
        """What the bot has sent into the room since the burst began, from the homeserver's own database."""
        first = next(message for message in self.reader.messages if self.mark in message.body)
        events = sent(self.hospital, first.room_id)
        return events[[event["event_id"] for event in events].index(first.event_id) :]

    @property
    def progress(self) -> float:
        """From 0 to 1: half of the way is to be accepted, the other half to be read."""
        return (self.accepted + len(self.seen)) / (2 * self.size)

    async def send(self) -> None:
        """As a provider does that retries with the same id."""
        for number, text in enumerate(self.texts):
            sms = Sms(text, to=self.to, sid=f"SM{self.mark}{number}")
            await until_accepted(lambda sms=sms: self.hospital.bridge.send_sms(self.hospital.session, sms))  # type: ignore[misc]
            self.accepted += 1

    async def arrive(self, timeout: float = 180) -> None:
        """Wait until every text has been read at least once."""
        await self.reader.wait_for(lambda: set(self.texts) <= set(self.seen), timeout)

    async def kill_at(self, points: Sequence[float], chance: random.Random) -> None:
        """Kill the bridge whenever the burst has come so far; every third time once more while it starts."""
        bridge = self.hospital.bridge
        for point in sorted(points):
            async with asyncio.timeout(120):
                while self.progress < point:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(chance.uniform(0, JITTER))
            await bridge.kill()
            if chance.random() < 1 / 3:
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(0, STARTING)):
                        await bridge.start()
                await bridge.kill()
            await bridge.start()


def sent(hospital: Hospital, room: str) -> list[Json]:
    """What the bot has sent into a room, in the homeserver's order."""
    query = (
        "SELECT event_id, json FROM events JOIN event_json USING (event_id, room_id)"
        " WHERE sender = ? AND room_id = ? AND type IN ('m.room.encrypted', 'm.reaction') ORDER BY stream_ordering"
    )
    file = f"file:{hospital.synapse.database_path}?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=30)) as database:
        rows = database.execute(query, (hospital.bot, room)).fetchall()
    return [{"event_id": event, **json.loads(document)} for event, document in rows]


def messages(stored: Iterable[Json]) -> list[str]:
    """The messages that speak of no other."""
    return [event["event_id"] for event in stored if not _relation(event)]


def edits(stored: Iterable[Json]) -> list[str]:
    """The messages that were edited, once for each edit."""
    relations = map(_relation, stored)
    return [relation["event_id"] for relation in relations if relation.get("rel_type") == "m.replace"]


def taps(stored: Iterable[Json]) -> list[tuple[str, str]]:
    """The reactions: the message under which each stands, and its key."""
    relations = [
        relation for relation in map(_relation, stored) if relation.get("rel_type") == "m.annotation"
    ]
    return [(relation["event_id"], relation["key"]) for relation in relations]


def _relation(event: Json) -> Json:
    related: Json = event["content"].get("m.relates_to", {})
    return related


async def quiet(hospital: Hospital) -> None:
    """Wait until nothing is left in the outbox."""
    async with asyncio.timeout(120):
        while True:
            health = await hospital.bridge.health()
            if health and health["parts"].get("outbox") == "0 waiting":
                return
            await asyncio.sleep(0.1)
