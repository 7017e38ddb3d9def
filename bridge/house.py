"""The house: the database, the vault, the crypto store and the homeserver, opened from the configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from mautrix.api import Method

from bridge.config import Config
from bridge.matrix.crypto_store import open_crypto_store
from bridge.matrix.device import register_bot, start_device
from bridge.matrix.homeserver import Homeserver, connect, path
from bridge.matrix.homeserver_rows import HomeserverRows
from bridge.matrix.machine import Machine, Rotation
from bridge.matrix.registration import read_registration
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault, parse_operator_key

ROOMS_AT_ONCE = 32  # Synapse is not quicker with more requests in flight


def utc_now() -> datetime:
    """The one clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class House:
    """What every command that touches data stands on."""

    config: Config
    database: Database
    keys: KeyRing
    homeserver: Homeserver
    machine: Machine


def open_vault(config: Config) -> Vault:
    """The vault under the configured keys. Raises VaultError."""
    keys = config.nightbell.keys
    refs = (keys.operator_key, *filter(None, [keys.previous_operator_key]))
    return Vault(*(parse_operator_key(ref.read_text()) for ref in refs))


def open_witness(config: Config) -> HomeserverRows | None:
    """Who looks into the homeserver's database, if its operator lets us."""
    where = config.nightbell.homeserver.database
    return HomeserverRows(where) if where is not None else None


@dataclass(frozen=True, slots=True)
class Archive:
    """What is kept: the rows, and the keys to what is sealed in them."""

    config: Config
    database: Database
    keys: KeyRing


@asynccontextmanager
async def open_archive(config: Config) -> AsyncIterator[Archive]:
    """Open the database and the vault."""
    database = Database(config.database_url)
    keys = KeyRing(open_vault(config))
    try:
        await database.migrate()
        await keys.claim(database, utc_now())
        yield Archive(config, database, keys)
    finally:
        await database.close()


@asynccontextmanager
async def connect_bot(config: Config) -> AsyncIterator[Homeserver]:
    """The connections to the homeserver, with the bot's token; nothing is sent yet."""
    homeserver = config.nightbell.homeserver
    token = read_registration(homeserver.registration).as_token
    async with connect(
        homeserver.url,
        token,
        config.bot,
        timeout=homeserver.timeout.total_seconds(),
        concurrency=ROOMS_AT_ONCE + 8,
    ) as connected:
        yield connected


@asynccontextmanager
async def open_house(config: Config) -> AsyncIterator[House]:
    """Open the database, the vault and the crypto store; nothing is sent to the homeserver yet."""
    async with open_archive(config) as archive:
        database, keys = archive.database, archive.keys
        async with (
            open_crypto_store(config.database_url, keys.pickle_key()) as store,
            connect_bot(config) as homeserver,
        ):
            encryption = config.nightbell.encryption
            rotation = Rotation(
                round(encryption.rotate_after.total_seconds() * 1000), encryption.rotate_after_messages
            )
            yield House(config, database, keys, homeserver, Machine(homeserver.client, store, rotation))


async def start_bot(house: House) -> None:
    """Register the bot and take up its device. Raises HomeserverError."""
    homeserver = house.config.nightbell.homeserver
    await register_bot(house.homeserver)
    await start_device(house.homeserver, house.machine, homeserver.device_name)
    profile = path("profile", house.homeserver.bot, "displayname")
    await house.homeserver.request(Method.PUT, profile, {"displayname": homeserver.display_name})
