"""The plaintext budget: what the homeserver may read, and a guard that lets nothing else past.

A homeserver reads the type, the envelope and the relations of every event, every state event, every reaction and
every redaction reason (Matrix spec, 'End-to-End Encryption'). So an event of ours is ciphertext, a tap from a fixed
set, or empty; to devices go only ciphertext and refusals; and a room says only what the configuration says. Every
request of the bridge and of its library passes here, and one that is not known to be harmless is not made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from bridge.model import in_hand
from bridge.model.errors import PlaintextRefusedError
from bridge.model.phi import Phi
from bridge.model.tap import Tap

EVENT_ID = re.compile(r"\$[!-~]{1,254}")
CIPHERTEXT = {"algorithm", "ciphertext", "device_id", "sender_key", "session_id", "m.relates_to"}
RELATION = {"rel_type", "event_id", "is_falling_back", "m.in_reply_to"}
RELATION_TYPES = {"m.replace", "m.thread"}
TAPS = {tap.value for tap in Tap}
TO_DEVICES = {
    "m.room.encrypted": {"algorithm", "ciphertext", "sender_key", "org.matrix.msgid"},
    "m.room_key_request": {"action", "body", "request_id", "requesting_device_id"},
    "m.room_key.withheld": {"algorithm", "room_id", "session_id", "sender_key", "code", "reason"},
}
WITHHELD_REASON = "This device is not verified by its owner"
# What a room is made of: its name, which is the configuration's, and settings.
ROOM = {
    "preset",
    "visibility",
    "name",
    "creation_content",
    "initial_state",
    "power_level_content_override",
}
SETTINGS = {
    "m.room.encryption",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.guest_access",
}
# Empty by intent, and of a type that clients do not show: what a purge is measured from.
PURGED = "org.nightbell.purged"
# Requests that carry a body of keys and signatures, of nothing, or of numbers.
HARMLESS = re.compile(
    r"_matrix/client/[^/]+/(keys/(upload|query|claim|signatures/upload|device_signing/upload)|register)"
    r"|_matrix/client/[^/]+/devices/[^/]+"
    r"|_matrix/media/v1/create"
    r"|_synapse/admin/v1/(purge_history|media|rooms|users)(/[^/]+)*"
)
# The bot's own keys, encrypted under its recovery key (Matrix spec, 'Secrets').
SECRETS = re.compile(
    r"m\.(secret_storage\.(default_key|key\.[A-Za-z0-9+/=_-]{1,64})"
    r"|cross_signing\.(master|self_signing|user_signing))"
)
# A transaction id of our own making, whose digits are chance.
MADE = re.compile(r"nb-([a-z]+-)*[0-9a-f]{32}(-[a-z0-9]+)*")
TRANSACTION = re.compile(r"[A-Za-z0-9._-]{1,100}")


def check(method: str, path: str, content: Any) -> None:
    """Raise PlaintextRefusedError unless a request says nothing that the homeserver must not read."""
    _demand(not _is_protected(content), "it carries a protected value")
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
        case ["_matrix", "client", _, "createRoom"]:
            _check_room(_document(content))
        case ["_matrix", "client", _, "rooms", _, "invite" | "kick"]:
            _demand(_document(content).keys() == {"user_id"}, "a reason is readable")
        case ["_matrix", "client", _, "profile", _, "displayname"] if method == "PUT":
            _demand(_document(content).keys() == {"displayname"}, "a profile is readable")
        case ["_matrix", "client", _, "user", _, "account_data", kind]:
            _demand(SECRETS.fullmatch(kind) is not None, "data of an account are readable")
        case ["_matrix", "media", "v3", "upload", _, _]:
            _demand(isinstance(content, bytes), "a file that is not encrypted is readable")
        case _:
            harmless = method in ("GET", "DELETE") or HARMLESS.fullmatch("/".join(parts))
            _demand(bool(harmless), "nothing is known of what this request lets be read")
    if not isinstance(content, bytes):
        _demand(not in_hand.reveals(*_words_of_ours(parts, content)), "it tells of the event in hand")


def _is_protected(content: Any) -> bool:
    if isinstance(content, Mapping):
        return any(map(_is_protected, content.values()))
    if isinstance(content, list | tuple):
        return any(map(_is_protected, content))
    return isinstance(content, Phi)


def _words_of_ours(parts: list[str], content: Any) -> Iterator[str]:
    """What of a request is neither ciphertext nor made by chance, so that it could only tell by our fault."""
    match parts:
        case [*_, "createRoom"]:
            room = _document(content)
            yield str(room["name"])
            yield from map(str, room["creation_content"].values())
        case [*_, "displayname"] | ["_matrix", "client", _, "devices", _]:
            yield from map(str, _document(content).values())
        case [*_, "send" | "redact", _, transaction] if not MADE.fullmatch(transaction):
            yield transaction


def _check_room(content: Mapping[str, Any]) -> None:
    _demand(content.keys() <= ROOM, "a room has fields that are readable")
    kinds = {state["type"] for state in content.get("initial_state", ())}
    _demand(kinds == SETTINGS, "a room's state is readable, or it would not be encrypted")


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
        _demand(not content, "a mark is readable")
        return
    _demand(kind == "m.room.encrypted", "an event of such a type is readable")
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
    _demand(kind in TO_DEVICES, "a message of such a type to devices is readable")
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
