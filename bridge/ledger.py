"""The ledger's chain: what happened, by whom, to what and when, so that a later change of it shows.

Each record's hash is SHA-256 over the record and the hash before it, as canonical JSON (keys sorted, no spaces,
UTF-8, no fractions). A checkpoint is an Ed25519 signature (RFC 8032) over a place in the chain: who has only the
public key can tell that nothing before it was changed, dropped, put in or moved. A record never holds content; a
patient stands in it only as a keyed token.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.model.errors import NightbellError
from bridge.model.ids import PageId

BRIDGE = "nightbell"  # the actor of what nobody asked for
GENESIS = "0" * 64
_SIGNED = b"nightbell ledger checkpoint\0"
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode

Value = str | int | Sequence[str]


class Action(StrEnum):
    """What a record tells of."""

    STARTED = "started"
    CONFIG_LOADED = "config_loaded"
    RECEIVED = "received"  # authentic, and durable before its source was answered
    ROUTED = "routed"
    REPLIED = "replied"  # the sender was given the fixed words of a rule, or was not
    KEY_SHARED = "key_shared"  # a room's key, to exactly these devices
    SENT = "sent"  # as ciphertext of that key, accepted by the homeserver
    NOT_SENT = "not_sent"
    JOINED = "joined"  # a like event joined a page that was open
    READ = "read"  # by somebody whom the page notified: their client says so
    CLIMBED = "climbed"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    ANSWERED = "answered"  # a clinician told the source something
    REPORTED = "reported"  # the source was told, or could not be
    FORWARDED = "forwarded"
    NUMBER_SHOWN = "number_shown"
    SNOOZED = "snoozed"
    CLOSED = "closed"
    RECALLED = "recalled"  # by a clinician, before its time
    HANDED_OVER = "handed_over"
    SHIFT_CHANGED = "shift_changed"
    LOGGED_IN = "logged_in"  # an administrator, or the bot's own device
    REFUSED = "refused"  # somebody asked for what they may not have
    IDENTITY_CHANGED = "identity_changed"
    IDENTITY_APPROVED = "identity_approved"
    DESTROYED = "destroyed"
    HOLD_PLACED = "hold_placed"
    HOLD_LIFTED = "hold_lifted"
    EXPORTED = "exported"
    KEY_ROTATED = "key_rotated"
    OFFBOARDED = "offboarded"
    CAPTURED = "captured"  # somebody has a channel's raw traffic recorded for a time
    OPENED = "opened"  # content was shown to an administrator
    PRUNED = "pruned"  # records whose own time was up
    CANARY = "canary"  # a leak check planted something


class LedgerChangedError(NightbellError):
    """A record or signature is not as it was written. Keep the database as it is; compare exports and anchors."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened. `objects` names what it happened to by ids, never by content."""

    action: Action
    actor: str = BRIDGE
    page: PageId | None = None
    objects: Mapping[str, Value] = field(default_factory=dict)
    outcome: str = "done"
    patient: bytes | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain. The next record stands on it."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Link:
    """A record in its place."""

    seq: int
    at: datetime
    record: Record
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed place in the chain."""

    head: Head
    at: datetime
    signature: bytes


def chain(head: Head, records: Iterable[Record], at: datetime) -> list[Link]:
    """The records as links, the first of them on `head`."""
    links = []
    for record in records:
        body = _body(head.seq + 1, at, record, head.hash)
        link = Link(head.seq + 1, at, record, head.hash, _hash(body))
        links.append(link)
        head = Head(link.seq, link.hash)
    return links


def follow(head: Head, link: Link) -> Head:
    """The place of a link that stands on `head`. Raises LedgerChangedError."""
    (made,) = chain(head, [link.record], link.at)
    if (made.seq, made.hash) != (link.seq, link.hash):
        raise LedgerChangedError(f"record {made.seq} is missing or was changed")
    return Head(link.seq, link.hash)


def is_signed(checkpoint: Checkpoint, key: Ed25519PublicKey) -> bool:
    """Whether a checkpoint is this key's."""
    try:
        key.verify(checkpoint.signature, _signed(checkpoint.head, _instant(checkpoint.at)))
    except InvalidSignature:
        return False
    return True


def sign(head: Head, at: datetime, key: Ed25519PrivateKey) -> Checkpoint:
    """Vouch for everything up to `head`."""
    return Checkpoint(head, at, key.sign(_signed(head, _instant(at))))


def link_line(link: Link) -> str:
    """A link as a line of an export."""
    return _canonical({**_body(link.seq, link.at, link.record, link.previous), "hash": link.hash})


def checkpoint_line(checkpoint: Checkpoint) -> str:
    """A checkpoint as a line of an export or of an anchor."""
    head = checkpoint.head
    signed = {"at": _instant(checkpoint.at), "hash": head.hash, "seq": head.seq}
    return _canonical({"checkpoint": signed, "signature": checkpoint.signature.hex()})


def receipt_line(checkpoint: Checkpoint, receipt: bytes) -> str:
    """What a time stamping authority gave for a checkpoint, as the line of an export that follows it."""
    return _canonical({"timestamp": base64.b64encode(receipt).decode(), "seq": checkpoint.head.seq})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of verifying an export.

    Records after `vouched` are chained, but no checkpoint stands behind them: their end may be cut off.
    """

    records: int
    after: int  # the checkpoint that the export begins with; 0 for the beginning of the ledger
    last: int
    vouched: int
    stamped: int = 0  # the last record that a verified time stamp vouches for
    stamped_at: datetime | None = None
    problem: str | None = None


Stamped = Callable[[bytes, bytes], datetime]
"""When a receipt says that a message was stamped. Raises `ValueError` unless it is a receipt for it."""


def verify(
    lines: Iterable[str],
    key: Ed25519PublicKey,
    *,
    anchors: Iterable[str] = (),
    stamped: Stamped | None = None,
) -> Verdict:
    """Follow an export from its first line to its last and stop at the first that does not fit.

    `anchors` are checkpoints that were kept elsewhere, or the lines of an earlier export: each checkpoint must be
    signed, and be a place in this chain. Time stamps are passed over unless `stamped` can verify them.
    """
    walk = _Walk(key, stamped)
    try:
        walk.expect(anchors)
        for number, line in enumerate(lines, 1):
            walk.line = number
            walk.step(line)
        walk.end()
    except _Broken as broken:
        return walk.verdict(str(broken))
    return walk.verdict()


class _Broken(Exception):
    """The chain does not hold here."""


class _Walk:
    """The state of `verify`."""

    def __init__(self, key: Ed25519PublicKey, stamped: Stamped | None) -> None:
        self._key = key
        self._stamped = stamped
        self._anchors: dict[int, str] = {}
        self._checkpoint = ""
        self.line = 0
        self.head: Head | None = None
        self.after = self.records = self.vouched = self.stamped = 0
        self.stamped_at: datetime | None = None

    def expect(self, anchors: Iterable[str]) -> None:
        for number, line in enumerate(anchors, 1):
            document = _parsed(line)
            if document is not None and "checkpoint" not in document and "seq" in document:
                continue  # a record or a time stamp: an earlier export is an anchor, too
            if document is None or "checkpoint" not in document:
                raise _Broken(f"line {number} of the anchor is no checkpoint")
            head = self._checked(document, f"line {number} of the anchor")
            if self._anchors.setdefault(head.seq, head.hash) != head.hash:
                raise _Broken(f"two anchors vouch for different records {head.seq}: the ledger was forked")

    def step(self, line: str) -> None:
        document = _parsed(line)
        if document is None:
            raise _Broken(f"line {self.line} is no record")
        if "checkpoint" in document:
            self._vouch(self._checked(document, f"line {self.line}"))
            self._checkpoint = line.rstrip("\n")
        elif "timestamp" in document:
            self._stamp(document)
        elif _canonical(document) != line.rstrip("\n"):
            raise _Broken(f"line {self.line} is not written as a record is: it may hold something twice")
        else:
            self._follow(document)

    def end(self) -> None:
        last = self.head.seq if self.head else 0
        beyond = [seq for seq in self._anchors if seq > last]
        if beyond:
            raise _Broken(
                f"the end is missing: an anchor vouches for record {max(beyond)}, the last is {last}"
            )
        if self.head is None:
            raise _Broken("it is empty: neither a record nor a signature stands in it")

    def verdict(self, problem: str | None = None) -> Verdict:
        last = self.head.seq if self.head else 0
        return Verdict(self.records, self.after, last, self.vouched, self.stamped, self.stamped_at, problem)

    def _checked(self, document: Mapping[str, Any], where: str) -> Head:
        try:
            signed = document["checkpoint"]
            head = Head(signed["seq"], signed["hash"])
            self._key.verify(bytes.fromhex(document["signature"]), _signed(head, signed["at"]))
        except InvalidSignature:
            raise _Broken(f"{where}: the checkpoint is not signed by this key") from None
        except (KeyError, TypeError, ValueError):
            raise _Broken(f"{where} is no checkpoint") from None
        return head

    def _vouch(self, checkpoint: Head) -> None:
        if self.head is None:
            self._anchored(checkpoint, f"line {self.line}")
            self.head, self.after = checkpoint, checkpoint.seq
        elif checkpoint != self.head:
            raise _Broken(
                f"record {self.head.seq} (line {self.line}): the checkpoint after it vouches for "
                f"record {checkpoint.seq} with another hash"
                if checkpoint.seq == self.head.seq
                else f"line {self.line}: a checkpoint of record {checkpoint.seq} stands after record {self.head.seq}"
            )
        self.vouched = checkpoint.seq

    def _stamp(self, document: Mapping[str, Any]) -> None:
        seq = document.get("seq")
        if not self._checkpoint or seq != self.vouched:
            raise _Broken(f"line {self.line}: a time stamp of record {seq} does not follow its checkpoint")
        if self._stamped is None:
            return
        try:
            receipt = base64.b64decode(document["timestamp"], validate=True)
            self.stamped_at = self._stamped(receipt, self._checkpoint.encode())
        except (ValueError, TypeError) as error:
            raise _Broken(
                f"line {self.line}: the time stamp of record {seq} does not hold: {error}"
            ) from None
        self.stamped = self.vouched

    def _follow(self, document: dict[str, Any]) -> None:
        head = self.head or Head()
        seq, claimed = document.get("seq"), document.pop("hash", None)
        where = f"record {seq} (line {self.line})"
        if seq != head.seq + 1:
            raise _Broken(f"{where}: record {head.seq + 1} should stand here")
        if document.get("previous") != head.hash:
            raise _Broken(f"{where} does not stand on record {head.seq}")
        if _hash(document) != claimed:
            raise _Broken(f"{where} was changed")
        self.head = Head(head.seq + 1, claimed)
        self._anchored(self.head, where)
        self.records += 1

    def _anchored(self, head: Head, where: str) -> None:
        if self._anchors.get(head.seq, head.hash) != head.hash:
            raise _Broken(f"{where} is not the one that an anchor vouches for")


def sign_statement(kind: str, statement: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """A signed JSON document of another kind, such as a certificate of destruction."""
    signature = key.sign(_statement(kind, statement)).hex()
    return _canonical({"kind": kind, "statement": statement, "signature": signature})


def read_statement(kind: str, text: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """What a signed document says. Raises `ValueError` unless it is of this kind and signed by this key."""
    document = _parsed(text)
    try:
        statement: dict[str, Any] = document["statement"] if document else {}
        key.verify(bytes.fromhex(document["signature"] if document else ""), _statement(kind, statement))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        message = f"this is no {kind} that was signed by this key"
        raise ValueError(message) from None
    return statement


def _statement(kind: str, statement: Mapping[str, Any]) -> bytes:
    return f"nightbell {kind}\0{_canonical(statement)}".encode()


def read_public_key(text: str) -> Ed25519PublicKey:
    """A public key from its 64 hexadecimal digits. Raises `ValueError`."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip()))


def public_key_text(key: Ed25519PrivateKey) -> str:
    """The public half, as `read_public_key` reads it."""
    return key.public_key().public_bytes_raw().hex()


def lines_of(links: Iterable[Link], checkpoints: Iterable[Checkpoint]) -> Iterator[str]:
    """Links and checkpoints, both in order, as the lines of an export."""
    waiting = iter(checkpoints)
    following = next(waiting, None)
    for link in links:
        while following is not None and following.head.seq < link.seq:
            yield checkpoint_line(following)
            following = next(waiting, None)
        yield link_line(link)
    if following is not None:
        yield checkpoint_line(following)
    yield from (checkpoint_line(checkpoint) for checkpoint in waiting)


def _body(seq: int, at: datetime, record: Record, previous: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "seq": seq,
        "at": _instant(at),
        "actor": record.actor,
        "action": record.action.value,
        "objects": dict(record.objects),
        "outcome": record.outcome,
        "previous": previous,
    }
    if record.page is not None:
        body["page"] = record.page
    if record.patient is not None:
        body["patient"] = record.patient.hex()
    return body


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def _signed(head: Head, at: str) -> bytes:
    return _SIGNED + _canonical({"at": at, "hash": head.hash, "seq": head.seq}).encode()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
