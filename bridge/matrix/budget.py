"""The plaintext budget: what the homeserver may read, and a guard that lets nothing else past.

A homeserver reads the type, the envelope and the relations of every event, every state event, every reaction and
every redaction reason (Matrix spec, 'End-to-End Encryption'). So an event of ours is ciphertext, a tap from a fixed
set, an empty redaction, or an empty mark up to which is purged; and to devices go only ciphertext and refusals. Every
request of the bridge and of its library passes here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from bridge.model.errors import NightbellError
from bridge.model.tap import Tap

EVENT_ID = re.compile(r"\$[!-~]{1,254}")
CIPHERTEXT = {"algorithm", "ciphertext", "device_id", "sender_key", "session_id", "m.relates_to"}
RELATION = {"rel_type", "event_id", "is_falling_back", "m.in_reply_to"}
RELATION_TYPES = {"m.replace", "m.thread"}
PURGED = "org.nightbell.purged"  # empty: what is older can be purged
TAPS = {tap.value for tap in Tap}
TO_DEVICES = {
    "m.room.encrypted": {"algorithm", "ciphertext", "sender_key", "org.matrix.msgid"},
    "m.room_key_request": {"action", "body", "request_id", "requesting_device_id"},
    "m.room_key.withheld": {"algorithm", "room_id", "session_id", "sender_key", "code", "reason"},
}
WITHHELD_REASON = "This device is not verified by its owner"
TRANSACTION = re.compile(r"[A-Za-z0-9._-]{1,100}")


class PlaintextRefusedError(NightbellError):
    """Something was about to be sent that the homeserver could read. It was not sent; this is a bug of ours."""


def check(path: str, content: Any) -> None:
    """Raise PlaintextRefusedError unless a request says nothing that the homeserver must not read."""
    parts = [unquote(part) for part in path.split("?", maxsplit=1)[0].strip("/").split("/")]
    match parts:
        case ["_matrix", "client", _, "rooms", _, "send", kind, transaction]:
            _check_transaction(transaction)
            _check_event(kind, _document(content))
        case ["_matrix", "client", _, "rooms", _, "redact", _, transaction]:
            _check_transaction(transaction)
            _demand(not _document(content), "a redaction's reason is readable")
        case ["_matrix", "client", _, "sendToDevice", kind, transaction]:
            _check_transaction(transaction)
            _check_to_devices(kind, _document(content))


def _check_event(kind: str, content: Mapping[str, Any]) -> None:
    if kind == "m.reaction":
        _demand(content.keys() == {"m.relates_to"}, "a reaction is one relation")
        relation: Any = content["m.relates_to"]
        _demand(isinstance(relation, Mapping), "a reaction is one relation")
        _demand(relation.keys() == {"rel_type", "event_id", "key"}, "a reaction has a target and a key")
        _demand(relation["key"] in TAPS, "a reaction's key is readable")
        _demand(relation["rel_type"] == "m.annotation", "a reaction annotates")
        _demand(_is_event(relation["event_id"]), "a reaction is to an event")
        return
    if kind == PURGED:
        _demand(not content, "a mark for a purge says nothing")
        return
    _demand(kind == "m.room.encrypted", f"an event of type {kind} is readable")
    _demand(
        content.keys() <= CIPHERTEXT and "ciphertext" in content, "an envelope has fields that are readable"
    )
    _demand(content.get("algorithm") == "m.megolm.v1.aes-sha2", "the algorithm is no Megolm")
    if "m.relates_to" in content:
        _check_relation(content["m.relates_to"])


def _check_relation(relation: Any) -> None:
    _demand(
        isinstance(relation, Mapping) and relation.keys() <= RELATION,
        "a relation has fields that are readable",
    )
    _demand(relation.get("rel_type", "m.thread") in RELATION_TYPES, "a relation is of an unknown type")
    _demand(relation.get("is_falling_back", True) is True, "a relation has fields that are readable")
    reply = relation.get("m.in_reply_to", {"event_id": "$x"})
    _demand(
        isinstance(reply, Mapping) and reply.keys() == {"event_id"}, "a reply has fields that are readable"
    )
    _demand(
        _is_event(reply["event_id"]) and _is_event(relation.get("event_id", "$x")),
        "a relation is to an event",
    )


def _check_to_devices(kind: str, content: Mapping[str, Any]) -> None:
    kind = kind.replace("org.matrix.room_key", "m.room_key")
    _demand(kind in TO_DEVICES, f"a message of type {kind} to devices is readable")
    for devices in content.get("messages", {}).values():
        for message in devices.values():
            _demand(message.keys() <= TO_DEVICES[kind], "a message to a device has fields that are readable")
            _demand(
                message.get("reason", WITHHELD_REASON) == WITHHELD_REASON, "a refusal's reason is readable"
            )


def _check_transaction(transaction: str) -> None:
    _demand(TRANSACTION.fullmatch(transaction) is not None, "a transaction id is readable")


def _is_event(value: Any) -> bool:
    return isinstance(value, str) and EVENT_ID.fullmatch(value) is not None


def _document(content: Any) -> Mapping[str, Any]:
    found = json.loads(content) if isinstance(content, str | bytes | bytearray) else content or {}
    _demand(isinstance(found, Mapping), "a body that is no object is readable")
    document: Mapping[str, Any] = found
    return document


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition and what it means that it is false
    if not holds:
        message = f"not sent: {otherwise}"
        raise PlaintextRefusedError(message)
