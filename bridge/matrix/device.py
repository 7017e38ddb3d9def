"""The bot's one device and its cross-signing identity: made once, the same over every restart.

The identity's private keys lie on the homeserver, encrypted under a recovery key (secret storage, Matrix spec
'Secrets'), which the operator is shown once. Nothing here ever makes a second identity by itself: clients would
then warn every clinician that the bot has changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import StrEnum

from mautrix.api import Method
from mautrix.crypto.cross_signing_key import CrossSigningSeeds
from mautrix.crypto.ssss.key import Key as RecoveryKey
from mautrix.types import DeviceID, TrustState

from bridge.matrix.homeserver import Homeserver, errors_of, path
from bridge.matrix.machine import Machine
from bridge.model.errors import HomeserverError, NightbellError


class IdentityError(NightbellError):
    """The bot's identity is missing, or its device is not signed by it."""


class IdentityState(StrEnum):
    """What the homeserver and the crypto store say of the bot's identity."""

    MISSING = "missing"  # no identity was ever published
    UNSIGNED = "unsigned"  # there is one, but it has not signed this device
    READY = "ready"


async def register_bot(homeserver: Homeserver) -> None:
    """Register the bot's user, unless it is there already."""
    localpart = homeserver.bot.removeprefix("@").split(":", 1)[0]
    body = {"type": "m.login.application_service", "username": localpart, "inhibit_login": True}
    try:
        await homeserver.request(Method.POST, path("register"), body)
    except HomeserverError as error:
        if error.code != "M_USER_IN_USE":
            raise


async def start_device(homeserver: Homeserver, machine: Machine, display_name: str) -> None:
    """Take up the device of the crypto store, or make one, and publish its keys."""
    store = machine.crypto_store
    device = await store.get_device_id()
    if not device:
        device = DeviceID(secrets.token_hex(5).upper())
        await homeserver.request(Method.PUT, path("devices", device), {"display_name": display_name})
        await store.put_device_id(device)
    homeserver.become(device)
    await machine.load()
    async with errors_of("publish the device's keys"):
        await machine.share_keys()
        await machine.fetch_own_keys()


async def identity_state(machine: Machine) -> IdentityState:
    """Where the bot's identity stands, after `start_device` has fetched its keys."""
    if await machine.get_own_cross_signing_public_keys() is None:
        return IdentityState.MISSING
    trust = await machine.resolve_trust(machine.own_identity)
    return IdentityState.READY if trust >= TrustState.CROSS_SIGNED_TOFU else IdentityState.UNSIGNED


async def require_identity(machine: Machine) -> None:
    """Raise IdentityError, saying what to run, unless the bot's device is signed by the bot's identity."""
    state = await identity_state(machine)
    if state is IdentityState.MISSING:
        message = "the bot has no cross-signing identity yet; make it once with: nightbell identity create"
        raise IdentityError(message)
    if state is IdentityState.UNSIGNED:
        message = (
            "the bot's device is not signed by the bot's identity (was the database lost?); sign it with the "
            "recovery key: nightbell identity recover"
        )
        raise IdentityError(message)


async def create_identity(machine: Machine, show_recovery_key: Callable[[str], None]) -> None:
    """Make the bot's identity. Raises IdentityError if it has one.

    The recovery key is shown before anything is published: an identity whose recovery key nobody ever saw
    could not be taken up again.
    """
    if await identity_state(machine) is not IdentityState.MISSING:
        message = "the bot already has an identity; after losing the database use: nightbell identity recover"
        raise IdentityError(message)
    recovery_key = RecoveryKey.generate()
    show_recovery_key(recovery_key.recovery_key)
    async with errors_of("publish the bot's identity"):
        await machine.publish_identity(recovery_key, CrossSigningSeeds.generate())
        await machine.fetch_own_keys()
    await require_identity(machine)


async def recover_identity(homeserver: Homeserver, machine: Machine, recovery_key: str) -> None:
    """Sign the present device with the identity that the recovery key opens, and drop the lost device."""
    try:
        async with errors_of("read the bot's identity"):
            await machine.verify_with_recovery_key(recovery_key.strip())
    except (ValueError, TypeError):
        message = "the recovery key does not open the bot's identity; check that it was typed in full"
        raise IdentityError(message) from None
    async with errors_of("fetch the bot's own keys"):
        await machine.fetch_own_keys()
    await require_identity(machine)
    listed = await homeserver.request(Method.GET, path("devices"))
    for entry in listed["devices"]:
        if entry["device_id"] != homeserver.device:
            await homeserver.request(Method.DELETE, path("devices", entry["device_id"]))
