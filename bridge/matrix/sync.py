"""Reading from the homeserver: `/sync` as the bot's device, stored before it is acted on.

What an answer brought and the position it was read up to are one transaction. A timeline that the server cut
short is filled backwards to that position before anything of it is stored (Matrix spec, 'Syncing').
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from mautrix.api import Method
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.matrix.homeserver import LONG_POLL_SECONDS, Homeserver, path
from bridge.model.ids import EventId, RoomId, UserId
from bridge.store import matrix_inbox, outbox
from bridge.store.database import Database
from bridge.store.receipts import keep_receipts

# What a person says or taps, and how far they have read; typing and presence are never asked for.
SPOKEN = ["m.room.encrypted", "m.room.message", "m.reaction"]
STATE = ["m.room.member", "m.room.encryption", "m.room.power_levels", "m.room.tombstone", "m.room.create"]
PAGE_LIMIT = 100
ONE_TIME_KEYS_WANTED = 50
FILTER = json.dumps(
    {
        "presence": {"types": []},
        "account_data": {"types": []},
        "room": {
            "account_data": {"types": []},
            "ephemeral": {"types": ["m.receipt"]},
            "state": {"types": STATE},
            "timeline": {"types": SPOKEN + STATE, "limit": PAGE_LIMIT},
        },
    },
    separators=(",", ":"),
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Brought:
    """What an answer brought, so that the loops behind it know whether to look."""

    words: bool = False
    members: bool = False
    joined: frozenset[RoomId] = frozenset()  # rooms in which somebody has just joined
    keys: bool = False
    receipts: bool = False


class Sync:
    """Takes one answer after another; each call of `step` is a transaction."""

    def __init__(self, homeserver: Homeserver, database: Database, now: Callable[[], datetime]) -> None:
        self._homeserver = homeserver
        self._database = database
        self._now = now
        self._caught_up = False

    async def step(self, *, wait: bool = True) -> Brought:
        """Read once and store it. Raises HomeserverError."""
        async with self._database.read() as connection:
            since = await matrix_inbox.position(connection, self._homeserver.device)
        query = {"filter": FILTER, "timeout": str(LONG_POLL_SECONDS * 1000 if wait and since else 0)}
        if since:
            query["since"] = since
        answer = await self._homeserver.sync(query)
        joined: dict[str, Any] = answer.get("rooms", {}).get("join", {})
        filled = {room: await self._timeline(room, body["timeline"], since) for room, body in joined.items()}
        async with self._database.write() as connection:
            messages = _device_messages(answer)
            await matrix_inbox.keep_device_messages(connection, messages)
            words = members = receipts = False
            for room, body in joined.items():
                members |= await self._keep_states(connection, RoomId(room), body, filled[room])
                # The first answer of a new device is the past; people's words in it were said to nobody.
                if since:
                    words |= await self._keep_words(connection, RoomId(room), filled[room])
                    receipts |= await self._keep_receipts(connection, RoomId(room), body)
            members |= await _lose_rooms(connection, answer)
            await matrix_inbox.set_position(connection, self._homeserver.device, answer["next_batch"])
        self._caught_up = True
        newly = frozenset(
            RoomId(room) for room, events in filled.items() if since and _somebody_joined(events)
        )
        return Brought(words, members, newly, bool(messages), receipts)

    async def _keep_receipts(
        self, connection: AsyncConnection, room: RoomId, body: Mapping[str, Any]
    ) -> bool:
        read: dict[UserId, EventId] = {}
        for ephemeral in body.get("ephemeral", {}).get("events", []):
            if ephemeral.get("type") == "m.receipt":
                read |= _read_by(ephemeral["content"])
        read.pop(self._homeserver.bot, None)
        await keep_receipts(connection, room, read, self._now())
        return bool(read)

    async def _keep_states(
        self,
        connection: AsyncConnection,
        room: RoomId,
        body: Mapping[str, Any],
        timeline: list[dict[str, Any]],
    ) -> bool:
        """Keep the state events of an answer; True if memberships were among them."""
        members = False
        for event in [*body.get("state", {}).get("events", []), *timeline]:
            if event["type"] == "m.room.member" and "state_key" in event:
                membership, user = event["content"].get("membership", "leave"), UserId(event["state_key"])
                await matrix_inbox.set_member(connection, room, user, membership, self._now())
                members = True
            elif event["type"] in STATE and event.get("state_key") == "":
                await matrix_inbox.set_state(connection, room, event["type"], event["content"])
        return members

    async def _keep_words(
        self, connection: AsyncConnection, room: RoomId, timeline: list[dict[str, Any]]
    ) -> bool:
        words = []
        for event in timeline:
            if event["type"] not in SPOKEN or "state_key" in event:
                continue
            if event["sender"] == self._homeserver.bot:
                if not self._caught_up:
                    await _confirm(connection, event)
            elif event.get("content"):
                words.append(event)
        return await matrix_inbox.keep_events(connection, room, words, self._now()) > 0

    async def _timeline(
        self, room: str, timeline: Mapping[str, Any], since: str | None
    ) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = list(timeline["events"])
        if not timeline.get("limited") or since is None:
            return events
        gap: list[dict[str, Any]] = []
        token: str | None = timeline["prev_batch"]
        while token:
            query = {"from": token, "to": since, "dir": "b", "limit": str(PAGE_LIMIT), "filter": _GAP_FILTER}
            page = await self._homeserver.request(Method.GET, path("rooms", room, "messages"), query=query)
            chunk: list[dict[str, Any]] = page["chunk"]
            async with self._database.read() as connection:
                known = await matrix_inbox.known_events(connection, [event["event_id"] for event in chunk])
            gap.extend(event for event in chunk if EventId(event["event_id"]) not in known)
            # A page may be empty though more lies behind it: what is hidden from us counts, too.
            token = page.get("end") if not known and page.get("end") != token else None
        log.info("timeline_gap_filled", room=room, events=len(gap))
        return gap[::-1] + events


_GAP_FILTER = json.dumps({"types": SPOKEN + STATE}, separators=(",", ":"))


def _read_by(content: Mapping[str, Any]) -> dict[UserId, EventId]:
    """Up to which event each user has read a room; how far they have read a single thread says nothing of it."""
    read: dict[UserId, EventId] = {}
    for event, kinds in content.items():
        users = kinds.get("m.read") if isinstance(kinds, dict) else None
        for user, receipt in (users if isinstance(users, dict) else {}).items():
            whole = isinstance(receipt, dict) and receipt.get("thread_id", "main") == "main"
            # Other homeservers can write anything there, and a database does not take every character.
            if whole and matrix_inbox.EVENT_ID.fullmatch(event) and user.isprintable():
                read[UserId(user)] = EventId(event)
    return read


def _somebody_joined(events: list[dict[str, Any]]) -> bool:
    return any(
        event["type"] == "m.room.member"
        and event["content"].get("membership") == "join"
        and event.get("unsigned", {}).get("prev_content", {}).get("membership") != "join"
        for event in events
    )


async def _lose_rooms(connection: AsyncConnection, answer: Mapping[str, Any]) -> bool:
    """Forget the rooms that the bot was put out of, as an administrator of the homeserver can; others are made."""
    lost = answer.get("rooms", {}).get("leave", {})
    for room in lost:
        log.warning("room_lost", room=room)
        await matrix_inbox.lose_room(connection, RoomId(room))
    return bool(lost)


async def _confirm(connection: AsyncConnection, event: Mapping[str, Any]) -> None:
    """Our own event has come back after a start: a crash has kept its sending from being recorded."""
    transaction = event.get("unsigned", {}).get("transaction_id")
    if transaction:
        await outbox.confirm(connection, transaction, EventId(event["event_id"]))


def _device_messages(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    messages: list[tuple[str, dict[str, Any]]] = []
    lists = answer.get("device_lists", {})
    if lists.get("changed") or lists.get("left"):
        messages.append(
            ("device_lists", {"changed": lists.get("changed", []), "left": lists.get("left", [])})
        )
    messages += [("to_device", event) for event in answer.get("to_device", {}).get("events", [])]
    counts = answer.get("device_one_time_keys_count", {})
    fallback = answer.get("device_unused_fallback_key_types")
    one_time = counts.get("signed_curve25519", 0)
    fallback_used = fallback is not None and "signed_curve25519" not in fallback
    if one_time < ONE_TIME_KEYS_WANTED or fallback_used:
        messages.append(("key_counts", {"one_time": one_time, "fallback_used": fallback_used}))
    return messages
