"""Rooms: one for each role and one for operations; private, encrypted from creation, changed by nobody but the bot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from mautrix.api import Method

from bridge.matrix.homeserver import Homeserver, path
from bridge.model.doors import Destination
from bridge.model.errors import HomeserverError
from bridge.model.ids import RoomId, UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database

BOT_POWER = 100
# Set in the room's create event, which nobody can change: a lost database finds its rooms again by it.
MARK = "io.nightbell.destination"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """How a destination's room should be. `name` is opaque, from the YAML; rotation as in the config."""

    destination: Destination
    name: str
    members: frozenset[UserId]
    federate: bool
    rotate_after_ms: int
    rotate_after_messages: int


class Rooms:
    """Finds, makes and keeps the rooms of the config's plans."""

    def __init__(
        self,
        homeserver: Homeserver,
        database: Database,
        now: Callable[[], datetime],
        *,
        members_changed: Callable[[], None],
    ) -> None:
        self._homeserver = homeserver
        self._database = database
        self._now = now
        self._members_changed = members_changed
        self._lock = asyncio.Lock()
        self._fitting: defaultdict[RoomId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rooms: dict[str, RoomId] | None = None
        self._refused: set[tuple[RoomId, UserId]] = set()
        self._fitted: dict[RoomId, frozenset[UserId]] = {}
        self._planned: dict[RoomId, frozenset[UserId]] = {}

    def planned(self, room: RoomId) -> frozenset[UserId]:
        """Who should be in a room that `ensure` has given; whoever else is there, the homeserver has let in."""
        return self._planned.get(room, frozenset())

    def forget_members(self) -> None:
        """Memberships have changed, ours too: compare every room's with its plan before its next use."""
        self._fitted.clear()
        self._rooms = None

    async def ensure(self, plan: RoomPlan) -> RoomId:
        """The room of a plan, with the plan's members invited and everybody else removed. Raises HomeserverError."""
        room = await self._find(plan.destination)
        if room is None:
            async with self._lock:
                room = await self._find(plan.destination) or await self._adopt(plan.destination)
                if room is None:
                    room = await self._create(plan)
                await self._keep(plan.destination, room)
        self._planned[room] = plan.members
        # Whoever comes while somebody is being removed waits, or would still give them the next key.
        async with self._fitting[room]:
            if self._fitted.get(room) != plan.members:
                # Before the work, so that a change which comes while it is done has it done again.
                self._fitted[room] = plan.members
                try:
                    await self._fit_members(room, plan.members)
                except BaseException:
                    self._fitted.pop(room, None)
                    raise
        return room

    async def _find(self, destination: Destination) -> RoomId | None:
        if self._rooms is None:
            async with self._database.read() as connection:
                self._rooms = await matrix_inbox.rooms(connection)
        return self._rooms.get(str(destination))

    async def _keep(self, destination: Destination, room: RoomId) -> None:
        async with self._database.write() as connection:
            await matrix_inbox.set_room(connection, str(destination), room, self._now())
            await matrix_inbox.set_member(connection, room, self._homeserver.bot, "join", self._now())
        self._rooms = None

    async def _adopt(self, destination: Destination) -> RoomId | None:
        """A room that an earlier life of this bot made and that the database does not know (any more)."""
        async with self._database.read() as connection:
            known = set((await matrix_inbox.rooms(connection)).values())
        joined = await self._homeserver.request(Method.GET, path("joined_rooms"))
        for room in joined["joined_rooms"]:
            if room in known:
                continue
            state = await self._homeserver.request(Method.GET, path("rooms", room, "state"))
            create = next(event for event in state if event["type"] == "m.room.create")
            if create["sender"] != self._homeserver.bot or create["content"].get(MARK) != str(destination):
                continue
            async with self._database.write() as connection:
                for event in state:
                    if event["type"] == "m.room.member":
                        user, membership = UserId(event["state_key"]), event["content"]["membership"]
                        await matrix_inbox.set_member(connection, RoomId(room), user, membership, self._now())
            log.info("room_adopted", destination=str(destination), room=room)
            return RoomId(room)
        return None

    async def _create(self, plan: RoomPlan) -> RoomId:
        body = room_body(plan)
        answer = await self._homeserver.request(Method.POST, path("createRoom"), body)
        room = RoomId(answer["room_id"])
        log.info("room_created", destination=str(plan.destination), room=room)
        return room

    async def _fit_members(self, room: RoomId, wanted: Iterable[UserId]) -> None:
        async with self._database.read() as connection:
            members = await matrix_inbox.members(connection, room)
        present = {user for user, membership in members.items() if membership in ("join", "invite")}
        present.discard(self._homeserver.bot)
        self._refused -= {(room, user) for user in present}
        for user in sorted(set(wanted) - present):
            await self._invite(room, user, members.get(user))
        for user in sorted(present - set(wanted)):
            await self._remove(room, user, members[user])

    async def _remove(self, room: RoomId, user: UserId, was: str) -> None:
        try:
            await self._homeserver.request(Method.POST, path("rooms", room, "kick"), {"user_id": user})
        except HomeserverError as error:
            if error.retry:
                raise
            # They have gone already, or the homeserver protects them: they are given no key in any case.
            log.warning("removal_refused", room=room, user=user, code=error.code)
            return
        await self._note(room, user, was, "leave")

    async def _invite(self, room: RoomId, user: UserId, was: str | None) -> None:
        if (room, user) in self._refused:
            return
        try:
            await self._homeserver.request(Method.POST, path("rooms", room, "invite"), {"user_id": user})
        except HomeserverError as error:
            if error.retry:
                raise
            # Synapse refuses to invite who is in the room already; sync will say so. Anybody else is not an
            # account here, and one wrong name must not keep the room from the others.
            log.warning("invite_refused", room=room, user=user, code=error.code)
            self._refused.add((room, user))
            return
        await self._note(room, user, was, "invite")

    async def _note(self, room: RoomId, user: UserId, was: str | None, becomes: str) -> None:
        async with self._database.write() as connection:
            await matrix_inbox.move_member(connection, room, user, was, becomes)
        self._members_changed()


def room_body(plan: RoomPlan) -> dict[str, Any]:
    """The body of `createRoom` for a plan (Matrix spec, 'Creation').

    Members may speak, react and redact their own words. Everything that decides who can read, and every change
    of the room itself, takes the bot's power.
    """
    return {
        "preset": "private_chat",
        "visibility": "private",
        "name": plan.name,
        "creation_content": {"m.federate": plan.federate, MARK: str(plan.destination)},
        "initial_state": [
            {
                "type": "m.room.encryption",
                "state_key": "",
                "content": {
                    "algorithm": "m.megolm.v1.aes-sha2",
                    "rotation_period_ms": plan.rotate_after_ms,
                    "rotation_period_msgs": plan.rotate_after_messages,
                },
            },
            {
                "type": "m.room.history_visibility",
                "state_key": "",
                "content": {"history_visibility": "joined"},
            },
            {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "invite"}},
            {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
        ],
        "power_level_content_override": {
            "users_default": 0,
            "events_default": 0,
            "state_default": BOT_POWER,
            "invite": BOT_POWER,
            "kick": BOT_POWER,
            "ban": BOT_POWER,
            "redact": BOT_POWER,
            "notifications": {"room": BOT_POWER},
            "events": {
                "m.room.encryption": BOT_POWER,
                "m.room.history_visibility": BOT_POWER,
                "m.room.join_rules": BOT_POWER,
                "m.room.guest_access": BOT_POWER,
                "m.room.power_levels": BOT_POWER,
                "m.room.server_acl": BOT_POWER,
                "m.room.name": BOT_POWER,
                "m.room.topic": BOT_POWER,
                "m.room.avatar": BOT_POWER,
                "m.room.canonical_alias": BOT_POWER,
                "m.room.tombstone": BOT_POWER,
            },
        },
    }
