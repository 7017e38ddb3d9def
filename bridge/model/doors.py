"""The doors between the floors: what the inbox offers to a channel, and what Matrix offers to the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from bridge.model.attachment import Attachment
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, EventId, IntakeId, RoleId, RoomId, UserId
from bridge.model.phi import Phi
from bridge.model.tap import Tap


@dataclass(frozen=True, slots=True)
class Receipt:
    """The inbox's word that an event is durable. The same event again gets the same id.

    `kind` is that of the event that is kept under the key: a duplicate's own may be another one.
    """

    intake: IntakeId
    duplicate: bool
    kind: EventKind | None = None


class Inbox(Protocol):
    """Where a channel puts what it verified. What keeps something returns only after the commit."""

    async def accept(self, event: IntakeEvent) -> Receipt:
        """Keep an event. Raises `StoreUnavailableError` if it could not be made durable."""

    async def kind_of(self, channel: ChannelId, key: Phi[str]) -> EventKind | None:
        """What the event is that is kept under a key; None if there is none. Raises `StoreUnavailableError`."""

    async def keep_unreadable(self, channel: ChannelId, raw: Phi[bytes], reason: str) -> Receipt:
        """Keep an authentic request that could not be parsed, and tell the operations room.

        `reason` must hold nothing of the request.
        """


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave: bytes, and their media type as far as it names one.

    `place` is where it was found, if that is now known more exactly: there it will be deleted.
    """

    content: Phi[bytes]
    type: str
    place: Phi[str] | None = None


@dataclass(frozen=True, slots=True)
class MediaSource:
    """How a channel's attachments are fetched. Both raise `MediaError`.

    `remove` deletes one at the source; None where they are to stay there. What is gone already is no error.
    """

    fetch: Callable[[Attachment], Awaitable[Fetched]]
    remove: Callable[[Attachment], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Texter:
    """How a channel writes to whoever wrote to it.

    `send` is given an event, fixed words and a key, and is False if there is nobody to write to. Raises
    `ReportError`. `repeats` says that the same key again sends nothing twice; where it does not, `send` says
    that trying again can help only if nothing was sent.
    """

    send: Callable[[IntakeEvent, str, str], Awaitable[bool]]
    repeats: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound that every client plays: Ogg/Opus, mono.

    `waveform` is its loudness from begin to end, each from 0 to 1024 (MSC1767).
    """

    content: Phi[bytes]
    milliseconds: int
    waveform: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncryptedFile:
    """A file as it is uploaded, and what opens it (Matrix spec, 'Sending encrypted attachments'), without a URL."""

    ciphertext: bytes
    opening: Phi[bytes]  # JSON


class MediaRepository(Protocol):
    """What Matrix offers for files. What talks to the homeserver raises HomeserverError."""

    def encrypt_file(self, content: Phi[bytes]) -> EncryptedFile:
        """Encrypt a file under a fresh key. It may take long: not for the loop."""

    def decrypt_file(self, file: EncryptedFile) -> Phi[bytes]:
        """What `encrypt_file` encrypted."""

    async def reserve_file(self) -> str:
        """A new address, mxc://..., under which nothing is uploaded yet."""

    async def upload_file(self, mxc: str, ciphertext: bytes) -> bool:
        """Upload, once only, whatever happened before. False if the address is not valid any more."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a message goes: the room of a role, a room that roles.yaml names, or the operations room."""

    role: RoleId | None = None
    room: str | None = None

    def __str__(self) -> str:
        if self.role is not None:
            return f"role:{self.role}"
        return f"room:{self.room}" if self.room is not None else "operations"

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read back what `str` wrote."""
        kind, _, name = text.partition(":")
        if kind == "role":
            return cls(role=RoleId(name))
        return cls(room=name) if kind == "room" else cls()


OPERATIONS = Destination()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as the homeserver will see it: ciphertext, or a reaction from a fixed set of keys."""

    room: RoomId
    type: str
    content: str  # JSON, kept byte for byte so that a retry sends the same
    session: str | None


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """What a person said or tapped in a room, decrypted.

    `about` is the event that they reacted or replied to. `trusted` is False for an encrypted message from a
    device that its owner has not signed: such a message is answered, but not obeyed. `files` are the addresses
    (mxc://...) of what a message shows that is no text.
    """

    event: EventId
    room: RoomId
    sender: UserId
    sent_at: datetime
    reaction: str | None
    text: Phi[str] | None
    about: EventId | None
    trusted: bool
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file at the homeserver, and who is to have uploaded it; None is the bot."""

    mxc: str
    by: UserId | None = None


class Anchor(Protocol):
    """A place for signatures of the ledger, out of reach of whoever can change its database."""

    @property
    def kind(self) -> str:
        """A word for it, the same after every start."""

    async def keep(self, line: str) -> bytes | None:
        """Keep a signature there. Returns a receipt, if it gives one. Raises AnchorError."""


class Courier(Protocol):
    """What Matrix offers to the engine."""

    async def room(self, destination: Destination) -> RoomId:
        """The room of a destination, made if need be, its members fitting the shift. Raises HomeserverError."""

    async def encrypt(self, room: RoomId, event_type: str, content: Phi[bytes]) -> Envelope:
        """Encrypt to the trusted devices of the room's members, sharing keys first where they lack them.

        Raises EncryptionUnavailableError if no member but the bot could read it, HomeserverError if keys
        could not be fetched or shared.
        """

    async def prepare(self, room: RoomId) -> None:
        """Share the room's keys now, so that the next message need not wait for it. Raises as `encrypt`."""

    async def approve_identity(self, user: UserId, master_key: str) -> bool:
        """Take this cross-signing identity as a person's from now on. False if they have yet another one by now."""

    def seed(self, room: RoomId, about: EventId, tap: Tap) -> Envelope:
        """A reaction for a thumb to tap. It is the one thing that can't be encrypted."""

    async def send(self, envelope: Envelope, transaction: str) -> EventId:
        """Send. The same transaction again is the same event. Raises HomeserverError."""

    async def readers(self, destination: Destination) -> frozenset[UserId]:
        """The people who are in a destination's room with at least one trusted device. Raises HomeserverError."""

    async def trusted(self, users: frozenset[UserId]) -> frozenset[UserId]:
        """Those who have a trusted device, whatever room they are in. Raises HomeserverError."""

    async def last_active(self, user: UserId) -> datetime | None:
        """When a person's devices were last active; None if that is not to be known. Raises HomeserverError."""

    async def read(self, raw: RawRoomEvent) -> RoomMessage | None:
        """Decrypt what a room brought; None if it is nothing that a person said. Raises UnreadableError."""


class Presence(StrEnum):
    """What the homeserver still has of an event."""

    PURGED = "purged"  # it knows no such event
    REDACTED = "redacted"  # the envelope, without content
    THERE = "there"


class Purge(StrEnum):
    """What came of asking the homeserver to delete."""

    DONE = "done"
    NOT_ALLOWED = "not_allowed"  # the bot is no administrator there
    FAILED = "failed"


class Eraser(Protocol):
    """What Matrix offers to retention. Each raises HomeserverError."""

    async def related(self, room: RoomId, event: EventId) -> list[EventId]:
        """The events that edit, answer in a thread, or react to an event."""

    async def redact(self, room: RoomId, event: EventId, transaction: str) -> EventId | None:
        """Take an event's content away. None if the homeserver does not know it or does not let us."""

    async def mark(self, room: RoomId, transaction: str) -> EventId | None:
        """Send an empty event, older than which everything can be purged. None if the homeserver does not let us."""

    async def purge(self, room: RoomId, before: EventId) -> Purge:
        """Delete everything in a room that is older than an event."""

    async def delete_file(self, upload: Upload) -> Presence | None:
        """Delete what was uploaded to an address, and look whether it is gone. None if it is somebody else's."""

    async def forget_keys(self, before: datetime) -> int:
        """Forget room keys that came before a moment and can't be in use any more. Returns how many."""

    async def look(self, room: RoomId, event: EventId) -> Presence:
        """Ask what is left of an event."""


class Witness(Protocol):
    """Somebody who looks into the homeserver's database. Raises HomeserverDatabaseError."""

    async def left_of(self, events: Sequence[EventId], files: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The tables that still know each event or file (`mxc://...`); what no table knows is not in the answer."""


@dataclass(frozen=True, slots=True)
class RawRoomEvent:
    """A room event as the homeserver brought it."""

    seq: int
    event: EventId
    room: RoomId
    sender: UserId
    type: str
    content: dict[str, object]
    sent_at: datetime
    received_at: datetime
    attempts: int
