"""What can be found out about the homeserver and the people from outside, without taking up the bot's device."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from mautrix.api import Method

from bridge.matrix.erasing import ADMIN, REFUSALS
from bridge.matrix.homeserver import Homeserver, path
from bridge.matrix.settings import Finding
from bridge.model.errors import HomeserverError
from bridge.model.ids import RoomId, UserId

STRANGERS = ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_FORBIDDEN", "M_EXCLUSIVE")


async def of_homeserver(homeserver: Homeserver) -> list[Finding]:
    """Whether it answers, takes the token, and lets the bot purge. Raises HomeserverError if it does not answer."""
    await homeserver.request(Method.GET, "_matrix/client/versions")
    found = [Finding("the homeserver answers")]
    try:
        whoami = await homeserver.request(Method.GET, path("account", "whoami"))
    except HomeserverError as error:
        if error.code not in STRANGERS:
            raise
        remedy = "install the registration (app_service_config_files) and restart the homeserver"
        return [*found, Finding("the homeserver knows the bridge's token", remedy)]
    found.append(Finding("the homeserver knows the bridge's token"))
    remedy = "" if whoami["user_id"] == homeserver.bot else "homeserver.bot is not a user of the registration"
    found.append(Finding(f"the bridge is {homeserver.bot}", remedy))
    newest = "the newest event of a room, which Synapse never purges, will say nothing"
    try:
        await homeserver.request(Method.GET, f"{ADMIN}/users/{quote(homeserver.bot, safe='')}/admin")
        found.append(Finding("the bot may purge what was sent, and see when devices were last used"))
        found.append(Finding(newest))
    except HomeserverError as error:
        if error.code not in REFUSALS:
            raise
        remedy = (
            "without it, what was redacted stays as an envelope, and files for ever; "
            "make it a server administrator, as one: PUT /_synapse/admin/v1/users/"
            f'{homeserver.bot}/admin {{"admin": true}}'
        )
        found.append(Finding("the bot may purge what was sent, and see when devices were last used", remedy))
        found.append(
            Finding(newest, "as above: before it purges, the bot sends an empty event to stand last")
        )
    return found


async def of_identity(homeserver: Homeserver) -> Finding:
    """Whether the bot's device is signed, so that clients show its messages without a warning."""
    signed = signed_devices(await _keys(homeserver, [homeserver.bot]), homeserver.bot)
    remedy = "" if signed else "nightbell identity create (or, after a loss, recover)"
    return Finding("the bot's device is signed by the bot's identity", remedy)


async def of_people(
    homeserver: Homeserver, rooms: Mapping[UserId, Mapping[RoomId, str]], names: Mapping[UserId, str]
) -> list[Finding]:
    """Whether each person has an account, is in their rooms, and has a device that may read."""
    keys = await _keys(homeserver, names)
    found = []
    for user, name in names.items():
        who = f"{name} ({user}) can be reached"
        if not await _has_account(homeserver, user):
            found.append(Finding(who, "they have no account on this homeserver"))
            continue
        absent = [room for room, membership in rooms.get(user, {}).items() if membership != "join"]
        if not rooms.get(user):
            remedy = "they are in no room yet: start the bridge, and have them accept the invitation"
        elif absent:
            remedy = f"they have not joined {', '.join(sorted(absent))}: have them accept the invitation"
        elif not signed_devices(keys, user):
            remedy = (
                "no session of theirs is verified: have them verify one, or set up recovery, in their client"
            )
        else:
            remedy = ""
        found.append(Finding(who, remedy))
    return found


async def of_room(homeserver: Homeserver, room: RoomId) -> set[UserId]:
    """Who is in a room or invited to it. Raises HomeserverError."""
    answer = await homeserver.request(Method.GET, path("rooms", room, "members"))
    return {
        UserId(event["state_key"])
        for event in answer["chunk"]
        if event["content"].get("membership") in ("join", "invite")
    }


def signed_devices(answer: Mapping[str, Any], user: UserId) -> list[str]:
    """The devices of a user that the user's self-signing key has signed (Matrix spec, 'Cross-signing')."""
    own = answer.get("self_signing_keys", {}).get(user, {}).get("keys", {})
    signed = []
    for device_id, device in answer.get("device_keys", {}).get(user, {}).items():
        signatures = device.get("signatures", {}).get(user, {})
        if any(_signed(device, signatures.get(name, ""), key) for name, key in own.items()):
            signed.append(str(device_id))
    return signed


def _signed(document: Mapping[str, Any], signature: str, key: str) -> bool:
    body = {name: value for name, value in document.items() if name not in ("signatures", "unsigned")}
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    try:
        Ed25519PublicKey.from_public_bytes(_unpadded(key)).verify(_unpadded(signature), canonical)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


async def _keys(homeserver: Homeserver, users: Iterable[UserId]) -> Any:
    body: dict[str, Any] = {"device_keys": {user: [] for user in users}}
    return await homeserver.request(Method.POST, path("keys", "query"), body)


async def _has_account(homeserver: Homeserver, user: UserId) -> bool:
    try:
        await homeserver.request(Method.GET, path("profile", user))
    except HomeserverError as error:
        if error.code not in REFUSALS:
            raise
        return False
    return True
