"""Nothing that the homeserver could read leaves the bridge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.matrix.budget import check
from bridge.matrix.homeserver import path
from bridge.model.errors import PlaintextRefusedError
from bridge.model.phi import Phi

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
    check("PUT", path("rooms", ROOM, "send", kind, transaction), json.dumps(content))


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
    check("PUT", path("rooms", ROOM, "redact", EVENT, "nb-erase-1"), {})


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


SETTINGS = [
    {"type": f"m.room.{name}"} for name in ("encryption", "history_visibility", "join_rules", "guest_access")
]
ROOM_BODY = {
    "name": "Cardiology",
    "creation_content": {"io.nightbell.destination": "role:cardiology"},
    "initial_state": SETTINGS,
}


@pytest.mark.parametrize(
    ("method", "where", "content"),
    [
        ("PUT", path("rooms", ROOM, "send", "org.nightbell.purged", "nb-mark-1"), {}),
        ("POST", path("createRoom"), ROOM_BODY),
        ("POST", path("rooms", ROOM, "invite"), {"user_id": "@a:x"}),
        ("PUT", "_matrix/media/v3/upload/x/y", b"ciphertext"),
        ("PUT", path("user", "@b:x", "account_data", "m.cross_signing.master"), {"encrypted": {}}),
        ("PUT", path("user", "@b:x", "account_data", "m.secret_storage.key.A+/b1="), {"iv": "x"}),
        ("POST", path("keys", "upload"), {"device_keys": {}}),
        ("POST", f"_synapse/admin/v1/purge_history/{ROOM}/{EVENT}", {"delete_local_events": True}),
        ("GET", path("joined_rooms"), None),
    ],
)
def test_what_the_bridge_asks_besides_passes(method: str, where: str, content: Any) -> None:
    check(method, where, content)


@pytest.mark.parametrize(
    ("method", "where", "content"),
    [
        ("PUT", path("rooms", ROOM, "send", "org.nightbell.purged", "nb-mark-1"), {"body": "Bed 12"}),
        ("POST", path("createRoom"), {**ROOM_BODY, "topic": "Bed 12"}),
        ("POST", path("createRoom"), {**ROOM_BODY, "initial_state": SETTINGS[1:]}),
        ("POST", path("rooms", ROOM, "kick"), {"user_id": "@a:x", "reason": "Bed 12"}),
        ("PUT", path("rooms", ROOM, "state", "m.room.topic", ""), {"topic": "Bed 12"}),
        ("PUT", path("presence", "@b:x", "status"), {"status_msg": "Bed 12"}),
        ("PUT", path("user", "@b:x", "account_data", "m.x"), {"body": "Bed 12"}),
        ("PUT", path("directory", "room", "#Bed12:x"), {"room_id": ROOM}),
        ("PUT", "_matrix/media/v3/upload/x/y", "Bed 12"),
    ],
)
def test_every_other_place_where_the_homeserver_could_read_is_refused(
    method: str, where: str, content: Any
) -> None:
    with pytest.raises(PlaintextRefusedError) as refused:
        check(method, where, content)
    assert "Bed" not in str(refused.value)


def test_a_protected_value_never_gets_into_a_request() -> None:
    for content in (
        {**ROOM_BODY, "name": Phi("Bed 12")},
        {"messages": {"@a:x": {"D": {"ciphertext": Phi("x")}}}},
    ):
        with pytest.raises(PlaintextRefusedError):
            check("POST", path("createRoom"), content)
    with pytest.raises(PlaintextRefusedError):
        check(
            "PUT", path("rooms", ROOM, "send", "m.room.encrypted", "t"), {**ENVELOPE, "ciphertext": Phi("x")}
        )


def test_a_reason_for_a_redaction_is_refused() -> None:
    with pytest.raises(PlaintextRefusedError):
        check("PUT", path("rooms", ROOM, "redact", EVENT, "nb-erase-1"), {"reason": "Bed 12"})


def test_a_transaction_id_that_says_something_is_refused() -> None:
    with pytest.raises(PlaintextRefusedError):
        send("m.reaction", REACTION, "Bed 12 at +15550001111")


def test_keys_go_to_devices_only_encrypted() -> None:
    olm = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {}, "sender_key": "k"}
    check("PUT", path("sendToDevice", "m.room.encrypted", "t1"), {"messages": {"@a:x": {"D": olm}}})
    with pytest.raises(PlaintextRefusedError):
        check(
            "PUT",
            path("sendToDevice", "m.room_key", "t1"),
            {"messages": {"@a:x": {"D": {"session_key": "…"}}}},
        )
