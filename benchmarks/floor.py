"""The bare floor: the same events, encrypted beforehand, put to the homeserver by one asyncio client."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import aiohttp
from ruamel.yaml import YAML

from testbed.hospital import Hospital

# As large as an encrypted page: what the homeserver does with an event depends on its size only.
CIPHERTEXT = "A" * 1200


def content() -> str:
    """A Megolm event as the homeserver sees one."""
    return json.dumps(
        {
            "algorithm": "m.megolm.v1.aes-sha2",
            "sender_key": "B" * 43,
            "device_id": "FLOOR",
            "session_id": "C" * 43,
            "ciphertext": CIPHERTEXT,
        }
    )


def as_token(registration: Path) -> str:
    """The token that the bridge itself uses."""
    token: str = YAML(typ="safe").load(registration.read_text())["as_token"]
    return token


async def put_all(
    hospital: Hospital, rooms: Sequence[str], each: int, device: str, *, taps: Sequence[str] = ()
) -> tuple[list[float], float]:
    """Put `each` events into every room, one after another in a room, all rooms at once; `taps` under each.

    Gives the seconds of every request, and of the whole.
    """
    token = as_token(hospital.bridge.registration)
    query = {"user_id": hospital.bot, "device_id": device}
    took: list[float] = []

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def put(room: str, kind: str, body: str) -> str:
            where = f"/_matrix/client/v3/rooms/{quote(room)}/send/{kind}/floor-{time.monotonic_ns()}"
            started = time.monotonic()
            async with session.put(hospital.synapse.base_url + where, params=query, data=body) as answer:
                answer.raise_for_status()
                event: str = (await answer.json())["event_id"]
            took.append(time.monotonic() - started)
            return event

        async def fill(room: str) -> None:
            events = [await put(room, "m.room.encrypted", content()) for _ in range(each)]
            for event in events:
                for tap in taps:
                    relation = {"rel_type": "m.annotation", "event_id": event, "key": tap}
                    await put(room, "m.reaction", json.dumps({"m.relates_to": relation}))

        started = time.monotonic()
        await asyncio.gather(*(fill(room) for room in rooms))
        return took, time.monotonic() - started
