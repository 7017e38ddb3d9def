"""What lies on the disk: nothing that opens a message without the operator's key."""

import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mautrix.crypto import InboundGroupSession, OlmAccount, OutboundGroupSession, Session
from ruamel.yaml import YAML

from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault, parse_operator_key
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.traces import everything_in, traces
from testbed.wards import Ward

# What other programs pickle under, and what a careless one would.
GUESSES = (
    "",
    "\0",
    "DEFAULT",
    "DEFAULT_KEY",
    "mautrix.bridge.e2ee",
    "nightbell",
    "roundtrip",
    "secret",
    "0" * 32,
)
PICKLES: dict[str, tuple[Any, str]] = {
    "account": (OlmAccount, "SELECT account FROM crypto_account"),
    "olm session": (Session, "SELECT session FROM crypto_olm_session"),
    "outbound session": (OutboundGroupSession, "SELECT session FROM crypto_megolm_outbound_session"),
    "inbound session": (InboundGroupSession, "SELECT session FROM crypto_megolm_inbound_session"),
}


@pytest.fixture(scope="module")
async def crypto(hospital: Hospital, unused_wards: list[Ward]) -> AsyncIterator[Path]:
    """The crypto store of a bridge that has sent, and has been answered."""
    ward = unused_wards.pop()
    async with Shift(hospital) as shift:
        client = await shift.nio(ward.people[0])
        await client.entrusted()
        await hospital.text("for the record", to=ward.number)
        page = await client.message("for the record")
        await client.say(page.room_id, "accept", in_reply_to=page.event_id)
        await client.message("Accepted by")
        yield hospital.bridge.directory / "nightbell-crypto.db"


def select(store: Path, query: str, *values: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute(query, values)]


@pytest.fixture
async def pickle_key(crypto: Path, hospital: Hospital) -> str:
    """What the operator's key comes to for the crypto store."""
    database = Database(f"sqlite:///{crypto.with_name('nightbell.db')}")
    try:
        keys = KeyRing(Vault(parse_operator_key(operator_key(hospital))))
        await keys.claim(database, datetime.now(UTC))
        return keys.pickle_key()
    finally:
        await database.close()


def operator_key(hospital: Hospital) -> str:
    return (hospital.bridge.directory / "operator_key").read_text().strip()


def opened(kind: Any, pickle: bytes, key: str) -> Any:
    """The pickle under its owner's key, past what mautrix adds to libolm's classes."""
    return kind.__base__.from_pickle(pickle, key)


async def test_the_bot_keeps_no_key_to_what_it_has_sent(crypto: Path, hospital: Hospital) -> None:
    own_keys = select(crypto, "SELECT identity_key FROM crypto_device WHERE user_id = ?", hospital.bot)
    senders = select(crypto, "SELECT sender_key FROM crypto_megolm_inbound_session")
    sent = set(select(crypto, "SELECT session_id FROM crypto_megolm_outbound_session"))
    received = set(select(crypto, "SELECT session_id FROM crypto_megolm_inbound_session"))
    assert len(own_keys) == 1
    assert senders
    assert sent
    assert own_keys[0] not in senders
    assert not sent & received


@pytest.mark.parametrize("name", PICKLES)
async def test_key_material_opens_with_the_operators_key_alone(
    crypto: Path, pickle_key: str, name: str
) -> None:
    kind, query = PICKLES[name]
    pickles = select(crypto, query)
    assert pickles
    for pickle in pickles:
        assert opened(kind, pickle, pickle_key)
        for guess in GUESSES:
            with pytest.raises(Exception, match=r"BAD_|INVALID_BASE64"):
                opened(kind, pickle, guess)


async def test_no_session_key_lies_open_in_any_file_of_the_bridge_or_the_homeserver(
    crypto: Path, hospital: Hospital, pickle_key: str
) -> None:
    secrets = []
    for name, export in (("outbound session", "session_key"), ("inbound session", "export_session")):
        kind, query = PICKLES[name]
        for pickle in select(crypto, query):
            session = opened(kind, pickle, pickle_key)
            exported = (
                session.session_key
                if export == "session_key"
                else session.export_session(session.first_known_index)
            )
            # After version and index: the 128 bytes of the ratchet, from which every later message key follows.
            secrets.append(base64.b64decode(exported + "=" * (-len(exported) % 4))[5:133])
    places = everything_in(hospital.directory / "bridge") | everything_in(hospital.directory / "synapse")
    assert len(secrets) > 1
    for place, content in places.items():
        for secret in secrets:
            assert secret not in content, place
            assert base64.b64encode(secret)[:-3] not in content, place


async def test_the_keys_to_it_all_stand_in_no_database_and_no_log(
    hospital: Hospital, pickle_key: str
) -> None:
    registration = YAML(typ="safe").load(hospital.bridge.registration.read_text())
    places = {
        place: content
        for place, content in everything_in(hospital.directory).items()
        if ".db" in place or ".log" in place
    }
    assert len(places) >= 6
    secrets = [operator_key(hospital), pickle_key, registration["as_token"], registration["hs_token"]]
    assert traces(secrets, places) == []
