"""What the engine sees of Matrix (`bridge.model.doors.Courier`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from mautrix.api import Method
from mautrix.types import EventType

from bridge.matrix.activity import last_active
from bridge.matrix.audience import ChangedIdentity
from bridge.matrix.encryption import Encryption
from bridge.matrix.homeserver import Homeserver, path
from bridge.matrix.rooms import RoomPlan, Rooms
from bridge.model import in_hand
from bridge.model.doors import Destination, Envelope, RawRoomEvent, RoomMessage
from bridge.model.ids import EventId, RoomId, UserId
from bridge.model.phi import Phi
from bridge.model.tap import Tap

REACTION = "m.reaction"
# What stands in ciphertext has passed no homeserver, and may hold what no database takes.
EVENT_ID = re.compile(r"\$[!-~]{1,254}")
ADDRESS = re.compile(r"mxc://[A-Za-z0-9.:\[\]-]{1,255}/[A-Za-z0-9_-]{1,255}")
MOST_FILES = 10  # of one message; clients put one there, and its thumbnail


class MatrixCourier:
    """Sends what the outbox holds, reads what rooms bring."""

    def __init__(
        self,
        homeserver: Homeserver,
        encryption: Encryption,
        rooms: Rooms,
        plan_of: Callable[[Destination], RoomPlan],
        now: Callable[[], datetime],
    ) -> None:
        self._homeserver = homeserver
        self._encryption = encryption
        self._rooms = rooms
        self._plan_of = plan_of
        self._now = now

    async def room(self, destination: Destination) -> RoomId:
        """The destination's room, its members as the config has them."""
        return await self._rooms.ensure(self._plan_of(destination))

    async def encrypt(self, room: RoomId, event_type: str, content: Phi[bytes]) -> Envelope:
        """Encrypt for the room's readers."""
        return await self._encryption.encrypt(room, self._rooms.planned(room), event_type, content)

    async def prepare(self, room: RoomId) -> None:
        """Share the room's keys ahead of the next message."""
        await self._encryption.prepare(room, self._rooms.planned(room))

    async def approve_identity(self, user: UserId, master_key: str) -> bool:
        """Trust a person's new identity."""
        return await self._encryption.approve(ChangedIdentity(user, master_key))

    def seed(self, room: RoomId, about: EventId, tap: Tap) -> Envelope:
        """A reaction of the bot, which the homeserver can read."""
        relation = {"rel_type": "m.annotation", "event_id": about, "key": tap.value}
        return Envelope(room, REACTION, json.dumps({"m.relates_to": relation}), None)

    async def send(self, envelope: Envelope, transaction: str) -> EventId:
        """PUT the envelope under its transaction id."""
        where = path("rooms", envelope.room, "send", envelope.type, transaction)
        answer = await self._homeserver.request(Method.PUT, where, envelope.content)
        return EventId(answer["event_id"])

    async def readers(self, destination: Destination) -> frozenset[UserId]:
        """Who is in the room with a device that gets its keys."""
        room = await self.room(destination)
        return await self._encryption.readers(room, self._rooms.planned(room))

    async def trusted(self, users: frozenset[UserId]) -> frozenset[UserId]:
        """Ask the homeserver for their devices."""
        return await self._encryption.trusted(users)

    async def last_active(self, user: UserId) -> datetime | None:
        """Ask the homeserver when it last saw a device of theirs."""
        return await last_active(self._homeserver, user, self._now())

    async def read(self, raw: RawRoomEvent) -> RoomMessage | None:
        """Decrypt and understand a room event."""
        if raw.type == REACTION:
            return _reaction(raw, raw.content, trusted=True)
        if raw.type != "m.room.encrypted":
            # Plain text in an encrypted room: anybody on the way could have written it.
            return _text(raw, raw.content, trusted=False)
        event, trusted = await self._encryption.decrypt(raw)
        content: dict[str, Any] = event.content.serialize()
        in_hand.add(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
        if event.type == EventType.REACTION:
            return _reaction(raw, content, trusted=trusted)
        if event.type != EventType.ROOM_MESSAGE:
            return None
        said = _text(raw, content, trusted=trusted)
        return said if said is not None else _shown(raw, content, trusted=trusted)


def _reaction(raw: RawRoomEvent, content: Mapping[str, Any], *, trusted: bool) -> RoomMessage | None:
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict) or relation.get("rel_type") != "m.annotation":
        return None
    about, key = _event_id(relation.get("event_id")), relation.get("key")
    if about is None or not isinstance(key, str):
        return None
    return RoomMessage(raw.event, raw.room, raw.sender, raw.sent_at, key, None, about, trusted)


def _text(raw: RawRoomEvent, content: Mapping[str, Any], *, trusted: bool) -> RoomMessage | None:
    relation = content.get("m.relates_to")
    relation = relation if isinstance(relation, dict) else {}
    body = content.get("body")
    if (
        not isinstance(body, str)
        or relation.get("rel_type") == "m.replace"
        or content.get("msgtype") != "m.text"
    ):
        return None
    text = Phi(_without_reply_fallback(body))
    return RoomMessage(raw.event, raw.room, raw.sender, raw.sent_at, None, text, _about(relation), trusted)


def _shown(raw: RawRoomEvent, content: Mapping[str, Any], *, trusted: bool) -> RoomMessage | None:
    """A message that shows a file, or an edit of one."""
    edited = content.get("m.new_content")
    shown = [*_files(content), *(_files(edited) if isinstance(edited, dict) else ())]
    if not shown:
        return None
    return RoomMessage(
        raw.event, raw.room, raw.sender, raw.sent_at, None, None, None, trusted, tuple(shown[:MOST_FILES])
    )


def _files(content: Mapping[str, Any]) -> Iterator[str]:
    """The addresses of a file and its thumbnail (Matrix spec, 'Sending encrypted attachments')."""
    info = content.get("info")
    of_info = (info.get("thumbnail_file"), info.get("thumbnail_url")) if isinstance(info, dict) else ()
    for place in (content.get("file"), content.get("url"), *of_info):
        address = place.get("url") if isinstance(place, dict) else place
        if isinstance(address, str) and ADDRESS.fullmatch(address):
            yield address


def _about(relation: Mapping[str, Any]) -> EventId | None:
    """The event that a reply answers; in a thread without an explicit reply, the thread's root."""
    reply = relation.get("m.in_reply_to")
    replied = reply.get("event_id") if isinstance(reply, dict) else None
    if relation.get("rel_type") == "m.thread" and (relation.get("is_falling_back") or replied is None):
        replied = relation.get("event_id")
    return _event_id(replied)


def _event_id(found: Any) -> EventId | None:
    return EventId(found) if isinstance(found, str) and EVENT_ID.fullmatch(found) else None


def _without_reply_fallback(body: str) -> str:
    """Drop the quoted lines that older clients put before a reply (Matrix spec before 1.13)."""
    if not body.startswith("> <"):
        return body
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        lines.pop(0)
    return "\n".join(lines).lstrip("\n")
