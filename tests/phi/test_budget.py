"""Nothing that the homeserver could read leaves the bridge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.matrix.budget import PlaintextRefusedError, check
from bridge.matrix.homeserver import path

ROOM, EVENT = "!room:x", "$event"
ENVELOPE = {
    "algorithm": "m.megolm.v1.aes-sha2",
    "ciphertext": "AwgA",
    "device_id": "D",
    "sender_key": "k",
    "session_id": "s",
}
REACTION = {"m.relates_to": {"rel_type": "m.annotation", "event_id": EVENT, "key": "✅"}}


def send(kind: str, content: Any, transaction: str = "nb-1") -> None:
    check(path("rooms", ROOM, "send", kind, transaction), json.dumps(content))


@pytest.mark.parametrize(
    "relation",
    [
        None,
        {"rel_type": "m.replace", "event_id": EVENT},
        {"m.in_reply_to": {"event_id": EVENT}},
        {
            "rel_type": "m.thread",
            "event_id": EVENT,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": EVENT},
        },
    ],
)
def test_ciphertext_with_what_the_bridge_relates_it_to_passes(relation: Any) -> None:
    send("m.room.encrypted", {**ENVELOPE, "m.relates_to": relation} if relation else ENVELOPE)


def test_a_tap_an_empty_redaction_and_an_empty_mark_pass() -> None:
    send("m.reaction", REACTION)
    send("org.nightbell.purged", {})
    check(path("rooms", ROOM, "redact", EVENT, "nb-erase-1"), {})


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("m.room.message", {"msgtype": "m.text", "body": "Bed 12"}),
        ("m.room.encrypted", {**ENVELOPE, "body": "Bed 12"}),
        ("m.room.encrypted", {**ENVELOPE, "algorithm": "none"}),
        ("m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2"}),
        ("m.room.encrypted", {**ENVELOPE, "m.relates_to": {"event_id": "+15550001111"}}),
        ("m.room.encrypted", {**ENVELOPE, "m.relates_to": {"event_id": EVENT, "key": "Bed 12"}}),
        (
            "m.room.encrypted",
            {**ENVELOPE, "m.relates_to": {"m.in_reply_to": {"event_id": EVENT, "body": "Bed"}}},
        ),
        ("m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": EVENT, "key": "Bed 12"}}),
        ("m.reaction", {**REACTION, "shortcode": "Bed 12"}),
        ("m.sticker", {}),
        ("org.nightbell.purged", {"body": "Bed 12"}),
    ],
)
def test_what_could_be_read_is_refused_without_repeating_it(kind: str, content: dict[str, Any]) -> None:
    with pytest.raises(PlaintextRefusedError) as refused:
        send(kind, content)
    assert "Bed" not in str(refused.value)
    assert "1555" not in str(refused.value)


def test_a_reason_for_a_redaction_is_refused() -> None:
    with pytest.raises(PlaintextRefusedError):
        check(path("rooms", ROOM, "redact", EVENT, "nb-erase-1"), {"reason": "Bed 12"})


def test_a_transaction_id_that_says_something_is_refused() -> None:
    with pytest.raises(PlaintextRefusedError):
        send("m.reaction", REACTION, "Bed 12 at +15550001111")


def test_keys_go_to_devices_only_encrypted() -> None:
    olm = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {}, "sender_key": "k"}
    check(path("sendToDevice", "m.room.encrypted", "t1"), {"messages": {"@a:x": {"D": olm}}})
    with pytest.raises(PlaintextRefusedError):
        check(path("sendToDevice", "m.room_key", "t1"), {"messages": {"@a:x": {"D": {"session_key": "…"}}}})
