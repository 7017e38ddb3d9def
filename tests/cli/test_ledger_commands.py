"""`nightbell ledger`, on a ledger of a few records."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from bridge.cli import ledger as commands
from bridge.cli import retention
from bridge.cli.disclosures import TREATMENT
from bridge.engine.retain import CERTIFICATE
from bridge.ledger import Action, Record, public_key_text, sign_statement
from bridge.model.ids import PageId
from bridge.model.phi import Phi
from bridge.store import ledger
from bridge.store.database import Database
from bridge.store.inbox import CALLER
from bridge.store.keys import KeyRing
from bridge.vault import Vault, parse_operator_key
from testbed.bridge import Bridge, CommandFailedError
from testbed.synapse import Synapse

NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
PATIENT = "+15550007001"


@pytest.fixture
async def bridge(tmp_path: Path) -> Bridge:
    """A bridge that does not run, with three records in its ledger."""
    bridge = Bridge(tmp_path / "bridge", Synapse(tmp_path / "synapse"))
    await bridge.register()
    database = Database(bridge.environment["NIGHTBELL_DATABASE_URL"])
    await database.migrate()
    keys = KeyRing(Vault(parse_operator_key((bridge.directory / "operator_key").read_text())))
    await keys.claim(database, NOW)
    anna = keys.lookup(CALLER, Phi(PATIENT))
    records = [
        Record(Action.ROUTED, page=PageId("p"), patient=anna, objects={"role": "cardiology"}),
        Record(Action.SENT, page=PageId("p"), objects={"session": "s", "event": "$e"}),
        Record(Action.ACCEPTED, "@okafor:nightbell.test", page=PageId("p")),
    ]
    async with database.write() as connection:
        await ledger.append(connection, records, NOW)
    await database.close()
    return bridge


async def exported(bridge: Bridge) -> Path:
    file = bridge.directory / "ledger.jsonl"
    await bridge.command("ledger", "export", "--output", str(file))
    return file


async def verify(bridge: Bridge, file: Path) -> str:
    key = (await bridge.command("ledger", "public-key")).strip()
    # Verifying needs no configuration, and so takes no --config.
    return await bridge.command("ledger", "verify", str(file), "--public-key", key, configured=False)


async def test_an_export_is_verified_with_the_public_key_alone(bridge: Bridge) -> None:
    said = await verify(bridge, await exported(bridge))
    assert said == "3 records from the beginning, up to record 3; signed up to 3\n"


async def test_the_first_record_that_does_not_fit_is_named(bridge: Bridge) -> None:
    file = await exported(bridge)
    file.write_text(file.read_text().replace("@okafor", "@mallory"))
    with pytest.raises(CommandFailedError, match=r"NOT INTACT: record 3 \(line 3\) was changed"):
        await verify(bridge, file)


async def test_an_export_whose_signature_was_cut_off_is_not_taken_for_whole(bridge: Bridge) -> None:
    file = await exported(bridge)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(CommandFailedError, match="No signature vouches"):
        await verify(bridge, file)


async def test_an_export_of_a_ledger_that_was_changed_says_so_and_is_not_signed(bridge: Bridge) -> None:
    with closing(sqlite3.connect(bridge.directory / "nightbell.db")) as database, database:
        database.execute("UPDATE ledger SET actor = '@mallory:nightbell.test' WHERE seq = 3")
    with pytest.raises(CommandFailedError, match="record 3 is missing or was changed"):
        await exported(bridge)
    file = bridge.directory / "ledger.jsonl"
    assert len(file.read_text().splitlines()) == 3
    with pytest.raises(CommandFailedError, match=r"NOT INTACT: record 3 \(line 3\) was changed"):
        await verify(bridge, file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "it is empty"),
        (b"\xf4\x00\xff", "line 1 is no record"),
    ],
)
def test_what_is_no_export_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "export"
    if content is not None:
        file.write_bytes(content)
    ended = verified(commands.app, file, "00" * 32)
    assert said in ended.output
    assert ended.exit_code == 1
    assert verified(retention.app, file, "00" * 32).exit_code == 1


def test_a_certificate_that_does_not_hold_is_named_by_its_line(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    facts = {"id": "c", "page": "p", "events": [], "files": []}
    whole = sign_statement(CERTIFICATE, facts, key)
    file, public = tmp_path / "certificates", tmp_path / "key"
    file.write_text(f"{whole}\n{whole.replace('p', 'q')}\n")
    public.write_text(public_key_text(key))
    ended = verified(retention.app, file, str(public))
    assert "1: c is signed; page p, 0 events, 0 files" in ended.output
    assert "NOT INTACT: line 2" in ended.output
    assert ended.exit_code == 1


def verified(app: typer.Typer, file: Path, key: str) -> Result:
    return CliRunner().invoke(app, ["verify", str(file), "--public-key", key])


async def test_an_export_as_csv_opens_in_a_spreadsheet(bridge: Bridge) -> None:
    said = await bridge.command("ledger", "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [row["action"] for row in rows] == ["routed", "sent", "accepted"]
    assert json.loads(rows[0]["objects"]) == {"role": "cardiology"}


async def add(bridge: Bridge, *records: Record) -> None:
    database = Database(bridge.environment["NIGHTBELL_DATABASE_URL"])
    async with database.write() as connection:
        await ledger.append(connection, records, NOW)
    await database.close()


async def test_a_page_is_shown_step_by_step(bridge: Bridge) -> None:
    said = await bridge.command("ledger", "show", "--page", "p")
    assert [line.split()[3] for line in said.splitlines()] == ["routed", "sent", "accepted"]


async def test_a_page_is_shown_from_the_event_on_that_it_was_made_of(bridge: Bridge) -> None:
    await add(
        bridge,
        Record(Action.RECEIVED, "channel:clinic-sms", objects={"intake": "1", "kind": "text"}),
        Record(Action.RECEIVED, "channel:clinic-sms", objects={"intake": "2", "kind": "text"}),
        Record(Action.ROUTED, page=PageId("q"), objects={"intake": "1"}),
        Record(Action.REPLIED, objects={"intake": "1"}, outcome="told"),
        Record(Action.KEY_SHARED, objects={"session": "s", "shared": ["@okafor:nightbell.test/A"]}),
        Record(Action.SENT, page=PageId("q"), objects={"session": "s", "event": "$f"}),
    )
    said = await bridge.command("ledger", "show", "--page", "q")
    assert [line.split()[3] for line in said.splitlines()] == [
        "received",
        "routed",
        "replied",
        "key_shared",
        "sent",
    ]


async def test_disclosures_are_accounted_for_by_the_patients_number_and_that_is_recorded(
    bridge: Bridge,
) -> None:
    page, by = PageId("p"), "@counsel:nightbell.test"
    await add(
        bridge,
        Record(
            Action.KEY_SHARED,
            objects={"session": "s", "shared": ["@okafor:nightbell.test/A", "@okafor:nightbell.test/B"]},
        ),
        Record(Action.SENT, page=page, objects={"session": "s", "purpose": "page", "event": "$f"}),
        Record(Action.OPENED, by, page=page),
        Record(Action.EXPORTED, by, page=page, objects={"hold": "7"}),
    )
    asked = ("ledger", "disclosures", "--by", "@operator:nightbell.test", "--number")
    said = await bridge.command(*asked, "+1 555 000 7001")
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [(row["to"], row["what"], row["why"]) for row in rows[1:]] == [
        ("@okafor:nightbell.test", "what the patient wrote or said", TREATMENT),
        (by, "what the patient wrote or said", "break-glass"),
        (by, "what the patient wrote or said", "export of legal hold 7"),
    ]
    assert rows[1]["devices"] == "@okafor:nightbell.test/A @okafor:nightbell.test/B"
    assert {row["page"] for row in rows} == {"p"}
    assert PATIENT not in said
    records = (await bridge.command(*asked, "+1 555 000 7001", "--format", "jsonl")).splitlines()
    assert {"routed", "accepted", "key_shared"} <= {json.loads(record)["action"] for record in records}
    assert "with its country code, as in" in await bridge.command(*asked, "555 000 7001")
    assert "@operator:nightbell.test" in (await exported(bridge)).read_text()


async def test_old_records_are_pruned_by_command_after_a_look(bridge: Bridge) -> None:
    database = Database(bridge.environment["NIGHTBELL_DATABASE_URL"])
    keys = KeyRing(Vault(parse_operator_key((bridge.directory / "operator_key").read_text())))
    await keys.claim(database, NOW)
    async with database.write() as connection:
        await ledger.checkpoint(
            connection, keys.signer(), NOW - timedelta(days=2200), await ledger.head(connection)
        )
    await database.close()
    assert "would go: 3 records, up to record 3" in await bridge.command("ledger", "prune", "--dry-run")
    with pytest.raises(CommandFailedError, match="--by is needed"):
        await bridge.command("ledger", "prune")
    await bridge.command("ledger", "prune", "--by", "@operator:nightbell.test")
    said = await verify(bridge, await exported(bridge))
    assert said == "2 records after the checkpoint of record 3, up to record 5; signed up to 5\n"
