"""What the scenarios have in common: a configuration as a text, and what people read in a room."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from shutil import copy
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from testbed.bridge import ROOT
from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital

ZONE = ZoneInfo("America/New_York")
TEMPLATE = 'templates: {standard: {lines: ["{priority} · {kind}", "From {caller}", "{body}", "{count}"]}}'
# Longer than the five seconds after which every loop looks at its clock.
SOON = 40


def at(text: str) -> datetime:
    """The instant of the hospital's local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def write_config(directory: Path, *, roles: str, routing: str) -> Path:
    """The repository's configuration with other roles and rules."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("nightbell.yaml", "retention.yaml"):
        copy(ROOT / "config" / name, directory)
    (directory / "roles.yaml").write_text(f"time_zone: {ZONE.key}\n{roles}")
    (directory / "routing.yaml").write_text(f"{TEMPLATE}\n{routing}")
    return directory


def people(*names: str) -> str:
    """The section of roles.yaml in which these are known."""
    lines = (f'  {name}: {{name: Dr. {name.title()}, matrix: "@{name}:nightbell.test"}}' for name in names)
    return "\n".join(["people:", *lines])


async def shows(client: Clinician, page: Message, text: str, timeout: float = SOON) -> Message:
    """Wait until a page's message has a text in it."""

    def edited() -> Message | None:
        found = next(message for message in client.messages if message.event_id == page.event_id)
        return found if text in found.body else None

    return await _awaited(client, edited, text, timeout)


async def replies(client: Clinician, page: Message, text: str, timeout: float = SOON) -> Message:
    """Wait for a message that answers a page or stands in its thread, and has a text in it."""

    def reply() -> Message | None:
        return next((m for m in client.messages if text in m.body and _is_about(m, page)), None)

    return await _awaited(client, reply, text, timeout)


async def _awaited(
    client: Clinician, find: Callable[[], Message | None], text: str, timeout: float
) -> Message:
    """Wait for a message; if it does not come, say what came instead."""
    try:
        return await client.wait_for(find, timeout)
    except TimeoutError:
        seen = "\n".join(repr(message.body) for message in client.messages)
        pytest.fail(f"{client.user_id} did not read {text!r}, but:\n{seen}")


def _is_about(message: Message, page: Message) -> bool:
    relation = message.content.get("m.relates_to", {})
    about = (relation.get("event_id"), relation.get("m.in_reply_to", {}).get("event_id"))
    return page.event_id in about


def mentions(message: Message) -> list[str]:
    """The people whom a message rings, by the first part of their names."""
    users = message.content.get("m.mentions", {}).get("user_ids", [])
    return [user.removeprefix("@").partition(":")[0] for user in users]


async def asked(client: Clinician, room: str, words: str, answer: str, **relation: str) -> Message:
    """Say something in a room, and wait for the answer to it."""
    event = await client.say(room, words, **relation)

    def reply() -> Message | None:
        return next((m for m in client.messages if answer in m.body and _answers(m, event)), None)

    return await _awaited(client, reply, answer, SOON)


def _answers(message: Message, event: str) -> bool:
    relation = message.content.get("m.relates_to", {})
    return bool(relation.get("m.in_reply_to", {}).get("event_id") == event)


async def members(client: Clinician, room: str) -> set[str]:
    """Who is in a room, the bridge left out."""
    _, answer = await client.request("GET", f"/rooms/{room}/joined_members")
    users = {user.removeprefix("@").partition(":")[0] for user in answer["joined"]}
    return users - {"nightbell"}


async def joined(client: Clinician, room: str, wanted: set[str]) -> None:
    """Wait until just these are in a room."""
    async with asyncio.timeout(SOON):
        while await members(client, room) != wanted:
            await asyncio.sleep(0.2)


def rows(hospital: Hospital, query: str, *values: Any) -> list[Any]:
    """What a query over the bridge's own database finds."""
    file = f"file:{hospital.bridge.directory / 'nightbell.db'}?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=30)) as database:
        return database.execute(query, values).fetchall()
