"""Taking back what was sent (`bridge.model.doors.Eraser`): redaction, and Synapse's purge of a room's history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mautrix.api import Method

from bridge.matrix.budget import PURGED
from bridge.matrix.homeserver import Homeserver, path
from bridge.matrix.machine import Machine
from bridge.model.doors import Presence, Purge, Upload
from bridge.model.errors import HomeserverError
from bridge.model.ids import EventId, RoomId, UserId

ADMIN = "_synapse/admin/v1"
POLL_SECONDS = 0.2
POLLS = 600
REFUSALS = ("M_FORBIDDEN", "M_NOT_FOUND", "M_UNRECOGNIZED")


class MatrixEraser:
    """Works on one event, or one room, at a time."""

    def __init__(self, homeserver: Homeserver, machine: Machine) -> None:
        self._homeserver = homeserver
        self._machine = machine

    async def related(self, room: RoomId, event: EventId) -> list[EventId]:
        """What hangs below an event (Matrix spec, 'Relationships API')."""
        where = f"_matrix/client/v1/rooms/{quote(room, safe='')}/relations/{quote(event, safe='')}"
        found: list[EventId] = []
        query = {"limit": "100", "recurse": "true"}
        while True:
            try:
                answer = await self._homeserver.request(Method.GET, where, query=query)
            except HomeserverError as error:
                if error.retry:
                    raise
                return found  # it was purged already: Synapse says 404 M_UNKNOWN
            found += [EventId(child["event_id"]) for child in answer["chunk"]]
            if not answer.get("next_batch"):
                return found
            query["from"] = answer["next_batch"]

    async def redact(self, room: RoomId, event: EventId, transaction: str) -> EventId | None:
        """Redact without a reason: a reason is plain text."""
        where = path("rooms", room, "redact", event, transaction)
        try:
            return EventId((await self._homeserver.request(Method.PUT, where, {}))["event_id"])
        except HomeserverError as error:
            if error.retry:
                raise
            return None

    async def mark(self, room: RoomId, transaction: str) -> EventId | None:
        """Send an empty event of a type that clients do not show."""
        where = path("rooms", room, "send", PURGED, transaction)
        try:
            return EventId((await self._homeserver.request(Method.PUT, where, {}))["event_id"])
        except HomeserverError as error:
            if error.code in REFUSALS:
                return None
            raise

    async def purge(self, room: RoomId, before: EventId) -> Purge:
        """Start a purge and wait for its end (Synapse's admin API, 'Purge History')."""
        where = f"{ADMIN}/purge_history/{quote(room, safe='')}/{quote(before, safe='')}"
        try:
            begun = await self._homeserver.request(Method.POST, where, {"delete_local_events": True})
            return await self._ended(begun["purge_id"])
        except HomeserverError as error:
            if error.code in REFUSALS:
                return Purge.NOT_ALLOWED
            if error.retry:
                raise
            return Purge.FAILED

    async def _ended(self, purge: str) -> Purge:
        for _ in range(POLLS):
            answer: Any = await self._homeserver.request(Method.GET, f"{ADMIN}/purge_history_status/{purge}")
            if answer["status"] != "active":
                return Purge.DONE if answer["status"] == "complete" else Purge.FAILED
            await asyncio.sleep(POLL_SECONDS)
        return Purge.FAILED

    async def delete_file(self, upload: Upload) -> Presence | None:
        """Delete by address, and ask for it (Synapse's admin API, 'Media')."""
        server, name = upload.mxc.removeprefix("mxc://").split("/", 1)
        where = f"{ADMIN}/media/{quote(server, safe='')}/{quote(name, safe='')}"
        # Anybody in a room can name any address there.
        if upload.by is not None and await self._uploader(where) not in (None, upload.by):
            return None
        for method in (Method.DELETE, Method.GET):
            try:
                await self._homeserver.request(method, where)
            except HomeserverError as error:
                if error.code == "M_NOT_FOUND":
                    return Presence.PURGED
                if error.code not in REFUSALS:
                    raise
        return Presence.THERE

    async def _uploader(self, where: str) -> UserId | None:
        """Who uploaded a file; None if it is gone, or not for the bot to know."""
        try:
            answer = await self._homeserver.request(Method.GET, where)
        except HomeserverError as error:
            if error.code not in REFUSALS:
                raise
            return None
        return UserId(answer["media_info"]["user_id"] or "")

    async def forget_keys(self, before: datetime) -> int:
        """Delete inbound Megolm sessions: a stolen store opens no ciphertext that is older."""
        store = self._machine.crypto_store
        # mautrix keeps moments without a zone, in UTC.
        old = before.astimezone(UTC).replace(tzinfo=None)
        count = await store.db.fetchval(
            "SELECT COUNT(*) FROM crypto_megolm_inbound_session WHERE received_at<$1", old
        )
        if count:
            await store.db.execute("DELETE FROM crypto_megolm_inbound_session WHERE received_at<$1", old)
        return int(count or 0)

    async def look(self, room: RoomId, event: EventId) -> Presence:
        """Ask for the event as any member of the room would."""
        try:
            found = await self._homeserver.request(Method.GET, path("rooms", room, "event", event))
        except HomeserverError as error:
            if error.code == "M_NOT_FOUND":
                return Presence.PURGED
            raise
        redacted = "redacted_because" in found.get("unsigned", {}) or not found.get("content")
        return Presence.REDACTED if redacted else Presence.THERE
