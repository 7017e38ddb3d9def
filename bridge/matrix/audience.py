"""Who may read a room: the devices of its members, and which of them are trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mautrix.types import CrossSigningUsage, DeviceIdentity, TrustState, UserID

from bridge.config import Trust
from bridge.matrix.homeserver import errors_of
from bridge.matrix.machine import Machine
from bridge.model.ids import RoomId, UserId
from bridge.store import matrix_inbox
from bridge.store.database import Database
from bridge.store.recipients import Outcome, Recipient


@dataclass(frozen=True, slots=True)
class ChangedIdentity:
    """A member whose cross-signing identity is not the one that was first seen or last approved."""

    user: UserId
    master_key: str


@dataclass(slots=True)
class Audience:
    """Every device of a room's members, by what may happen to it.

    Who is only invited gets keys, but could not see what is sent before they join.
    """

    joined: set[UserId] = field(default_factory=set)
    entitled: list[DeviceIdentity] = field(default_factory=list)
    refused: list[tuple[DeviceIdentity, Outcome]] = field(default_factory=list)

    def has_readers(self) -> bool:
        """Whether anybody in the room could read."""
        return any(UserId(device.user_id) in self.joined for device in self.entitled)

    def fits(self, known: Iterable[Recipient]) -> bool:
        """Whether a session that was considered for these devices is for exactly this audience."""
        had = {
            (r.user, r.device, r.identity_key)
            for r in known
            if r.outcome in (Outcome.SHARED, Outcome.NO_ONE_TIME_KEY)
        }
        return had == {_facts(device) for device in self.entitled}

    def is_reached_by(self, given: Iterable[Recipient]) -> bool:
        """Whether anybody who could see a message has been given its key."""
        return any(r.outcome is Outcome.SHARED and r.user in self.joined for r in given)

    def newly_refused(self, known: Iterable[Recipient]) -> list[tuple[DeviceIdentity, Outcome]]:
        """The refused devices that have not been told so for a session."""
        told = {(r.user, r.device, r.identity_key) for r in known}
        return [(device, outcome) for device, outcome in self.refused if _facts(device) not in told]

    def why_nobody_reads(self) -> str:
        """In words, for the operations room."""
        if not self.joined:
            return "nobody has joined yet"
        if not self.refused:
            return "no member has any device"
        return ", ".join(sorted({outcome.value for _, outcome in self.refused}))


class Audiences:
    """Decides whose devices are trusted, by the configuration."""

    def __init__(self, machine: Machine, database: Database, trust: Trust) -> None:
        self._machine = machine
        self._database = database
        self._trust = trust

    async def of(self, room: RoomId, people: frozenset[UserId]) -> Audience:
        """Those of `people` who are in a room now, with their devices. Raises HomeserverError if they can't be fetched.

        It takes both: the homeserver says who is in the room, and might let in whom it likes.
        """
        async with self._database.read() as connection:
            members = await matrix_inbox.members(connection, room)
        users = [
            user
            for user, membership in members.items()
            if membership in ("join", "invite") and user in people
        ]
        store = self._machine.crypto_store
        untracked = [UserID(user) for user in users if await store.get_devices(UserID(user)) is None]
        if untracked:
            async with errors_of("fetch the members' devices"):
                await self._machine.fetch_devices(untracked)
        audience = Audience({user for user in users if members[user] == "join"})
        for user in users:
            for device in (await store.get_devices(UserID(user)) or {}).values():
                refusal = await self.refusal(device)
                if refusal is None:
                    audience.entitled.append(device)
                else:
                    audience.refused.append((device, refusal))
        return audience

    async def trusted(self, users: Iterable[UserId]) -> frozenset[UserId]:
        """Those who have a device that may read. Raises HomeserverError.

        They are fetched each time: of who shares no room with us the homeserver tells no changes.
        """
        wanted = [UserID(user) for user in users]
        async with errors_of("fetch the devices of who might be asked in"):
            await self._machine.fetch_devices(wanted)
        found = set()
        for user in wanted:
            for device in (await self._machine.crypto_store.get_devices(user) or {}).values():
                if await self.refusal(device) is None:
                    found.add(UserId(user))
        return frozenset(found)

    async def refusal(self, device: DeviceIdentity) -> Outcome | None:
        """Why a device may not read, or None if it may."""
        trust = await self._machine.resolve_trust(device, allow_fetch=False)
        if trust == TrustState.BLACKLISTED:
            return Outcome.REFUSED_BLOCKED
        if self._trust is Trust.ALL or trust >= TrustState.CROSS_SIGNED_TOFU:
            return None
        keys = await self._machine.crypto_store.get_cross_signing_keys(device.user_id)
        master = keys.get(CrossSigningUsage.MASTER)
        if master is None:
            return None if self._trust is Trust.FIRST_USE else Outcome.REFUSED_UNSIGNED
        return Outcome.REFUSED_UNSIGNED if master.key == master.first else Outcome.REFUSED_CHANGED

    async def may_be_obeyed(self, sender: UserId, room: RoomId, session_id: str) -> bool:
        """Whether a session was made by a device of the sender's that may read, too.

        What an event itself says of its device is not looked at: whoever sends it may write anything there.
        """
        store = self._machine.crypto_store
        session = await store.get_group_session(room, session_id)  # type: ignore[arg-type]
        if session is None or session.forwarding_chain:
            return False
        device = await store.find_device_by_key(UserID(sender), session.sender_key)
        return device is not None and await self.refusal(device) is None

    async def changed(self, users: Iterable[UserId]) -> list[ChangedIdentity]:
        """Who of these has another identity than the one first seen or approved, and is refused for it."""
        if self._trust is Trust.ALL:
            return []
        changed = []
        for user in users:
            keys = await self._machine.crypto_store.get_cross_signing_keys(UserID(user))
            master = keys.get(CrossSigningUsage.MASTER)
            if master is not None and master.key != master.first:
                changed.append(ChangedIdentity(user, str(master.key)))
        return changed

    async def approve(self, identity: ChangedIdentity) -> bool:
        """Take an identity as its owner's from now on. False if they have yet another one by now."""
        keys = await self._machine.crypto_store.get_cross_signing_keys(UserID(identity.user))
        master = keys.get(CrossSigningUsage.MASTER)
        if master is None or master.key != identity.master_key:
            return False
        await self._machine.crypto_store.db.execute(
            "UPDATE crypto_cross_signing_keys SET first_seen_key=key WHERE user_id=$1 AND usage=$2 AND key=$3",
            identity.user,
            CrossSigningUsage.MASTER.value,
            identity.master_key,
        )
        return True


def _facts(device: DeviceIdentity) -> tuple[str, str, str]:
    return str(device.user_id), str(device.device_id), str(device.identity_key)
