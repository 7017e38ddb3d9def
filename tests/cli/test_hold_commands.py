"""`nightbell hold` and `nightbell vault`, on a database with one page."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.store.database import Database
from bridge.store.inbox import IntakeStore
from bridge.store.keys import KeyRing
from bridge.vault import Vault, generate_operator_key, parse_operator_key
from testbed.bridge import Bridge, CommandFailedError
from testbed.synapse import Synapse
from tests.cli.test_policy_commands import nightbell
from tests.store.test_retention import open_page

NOW = datetime.now(UTC)
OLD = "previous_operator_key"
BY = ("--by", "@operator:nightbell.test")


@pytest.fixture
async def bridge(tmp_path: Path) -> Bridge:
    bridge = Bridge(tmp_path / "bridge", Synapse(tmp_path / "synapse"))
    await bridge.register()
    database = Database(bridge.environment["NIGHTBELL_DATABASE_URL"])
    await database.migrate()
    keys = KeyRing(Vault(parse_operator_key((bridge.directory / "operator_key").read_text())))
    await keys.claim(database, NOW)
    await open_page(database, keys, IntakeStore(database, keys, lambda: NOW, lambda: None))
    await database.close()
    return bridge


async def place(bridge: Bridge, *what: str) -> str:
    return await bridge.command("hold", "place", *what, *BY, "--reason", "Case 7")


async def placed(bridge: Bridge, *what: str) -> str:
    """The id of a hold that is placed so."""
    return (await place(bridge, *what)).splitlines()[0].split()[-1]


async def test_a_hold_by_number_finds_the_patients_page(bridge: Bridge) -> None:
    assert (await place(bridge, "number", "+1 555 000 7001")).startswith("1 pages are held by ")
    assert (await place(bridge, "number", "+1 555 000 7002")).startswith("0 pages")
    shown = await bridge.command("hold", "list")
    assert "Case 7" in shown
    assert "7001" not in shown


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = await placed(bridge, "role", "cardiology")
    await bridge.command("capture", "events", *BY)
    archive = tmp_path / "case.nightbell"
    expected = {
        ("hold", "place", "range", "--from", "2026-01-01", "--reason", "-"): "1 pages would be held",
        ("hold", "lift", hold): "1 pages are held: 0 would go at the next sweep, 1 at their time",
        ("hold", "export", hold, str(archive)): f"1 events of 1 pages would be written to {archive}",
        ("offboard", "@okafor:nightbell.test"): "would be taken out of 0 rooms",
        ("offboard", "@okafor:nightbell.test", "--undo"): "was not taken out",
        ("capture", "events", "--destroy"): f"is kept by hold {hold}",
        ("capture", "clinic-sms"): "clinic-sms would be recorded",
        ("ledger", "prune"): "nothing goes",
        ("vault", "rotate"): "would wrap all of it",
    }
    file = bridge.directory / "nightbell.db"
    before = dump(file)
    for name, value in bridge.environment.items():
        monkeypatch.setenv(name, value)
    config = ("--config", str(bridge.config))
    for words, said in expected.items():
        # Within this process: one of its own takes a second to start.
        ended = await asyncio.to_thread(nightbell, monkeypatch, *words, "--dry-run", *BY, *config)
        assert (ended, said in capsys.readouterr().out) == (0, True), words
    assert dump(file) == before
    assert not archive.exists()


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


async def test_a_hold_of_what_is_not_there_is_refused(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {
        "role cardiolgy": 'nor does it exist; did you mean "cardiology"?',
        "page nonsense": "no page nonsense has content",
        "room !typo": "is no room of ours",
        "number +1555*": "should be one, with its country code",
        "role cardiology --from 2026-12-01 --until 2026-11-01": "--from should be before",
        "role cardiology --from yesterday": "--from should be a date",
    }
    for name, value in bridge.environment.items():
        monkeypatch.setenv(name, value)
    config = ("--reason", "Case 7", "--config", str(bridge.config))
    for what, said in refused.items():
        words = ("hold", "place", *what.split(), *BY, *config)
        assert await asyncio.to_thread(nightbell, monkeypatch, *words)
        assert said in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert await bridge.command("hold", "list") == "no hold is in force\n"


async def test_a_hold_by_a_number_that_nobody_knows_says_how_a_number_is_written(bridge: Bridge) -> None:
    said = await place(bridge, "number", "555 000 7001", "--until", "2026-12-01")
    assert "0 pages are held by" in said
    assert "with its country code, as in +1 555 000 7001" in said
    assert "number until 2026-12-01 00:00  Case 7" in await bridge.command("hold", "list")


async def test_held_content_is_shown_in_the_plan(bridge: Bridge) -> None:
    assert "1 go within 400 days, 0 are held" in await bridge.command("retention", "plan", "--days", "400")
    await place(bridge, "range", "--from", f"{NOW - timedelta(days=400):%Y-%m-%d}")
    assert "0 go within 400 days, 1 are held" in await bridge.command("retention", "plan", "--days", "400")


async def test_a_hold_ends_when_it_is_lifted(bridge: Bridge) -> None:
    hold = await placed(bridge, "role", "cardiology")
    await bridge.command("hold", "lift", hold, *BY)
    assert await bridge.command("hold", "list") == "no hold is in force\n"
    with pytest.raises(CommandFailedError, match="no hold"):
        await bridge.command("hold", "lift", hold, *BY)


async def test_held_content_is_handed_over_encrypted_and_that_is_recorded(
    bridge: Bridge, tmp_path: Path
) -> None:
    hold = await placed(bridge, "role", "cardiology")
    sealed, opened = tmp_path / "case.nightbell", tmp_path / "case.zip"
    secret = ("--passphrase", "correct horse battery staple")
    with pytest.raises(CommandFailedError, match="no hold nonsense"):
        await bridge.command("hold", "export", "nonsense", str(sealed), *BY, *secret)
    assert not sealed.exists()
    await bridge.command("hold", "export", hold, str(sealed), *BY, *secret)
    with pytest.raises(CommandFailedError, match="can't be made"):
        await bridge.command("hold", "export", hold, str(sealed), *BY, *secret)
    assert b"Bed 12" not in sealed.read_bytes()
    wrong = ("--passphrase", "another")
    with pytest.raises(CommandFailedError, match="the passphrase is another one"):
        await bridge.command("hold", "open", str(sealed), str(opened), *wrong, configured=False)
    assert not opened.exists()
    await bridge.command("hold", "open", str(sealed), str(opened), *secret, configured=False)
    with zipfile.ZipFile(opened) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        (name,) = manifest["documents"]
        assert json.loads(archive.read(name))["body"] == "Bed 12"
    assert manifest["exported_by"] == "@operator:nightbell.test"
    assert [page["role"] for page in manifest["pages"].values()] == ["cardiology"]
    ledger = await bridge.command("ledger", "export")
    assert [json.loads(line)["action"] for line in ledger.splitlines()[:-1]] == [
        "received",
        "logged_in",
        "hold_placed",
        "logged_in",
        "logged_in",
        "exported",
    ]


async def test_the_operators_key_is_changed_by_command(bridge: Bridge) -> None:
    old, new = bridge.directory / "operator_key", bridge.directory / "new_key"
    new.write_text(generate_operator_key())
    bridge.environment["NIGHTBELL_OPERATOR_KEY_FILE"] = str(new)
    with pytest.raises(CommandFailedError, match="both of them"):
        await bridge.command("vault", "status")
    config = bridge.directory / "config"
    config.mkdir()
    for file in bridge.config.glob("*.yaml"):
        text = file.read_text()
        text = text.replace(f"#{OLD}: env:NIGHTBELL_PREVIOUS_OPERATOR_KEY", f"{OLD}: file:{old}")
        (config / file.name).write_text(text)
    given, bridge.config = bridge.config, config
    assert "not in force yet" in await bridge.command("vault", "status")
    assert "would wrap all of it" in await bridge.command("vault", "rotate", *BY, "--dry-run")
    assert "not in force yet" in await bridge.command("vault", "status")
    await bridge.command("vault", "rotate", *BY)
    bridge.config = given
    (shown,) = (await bridge.command("vault", "status")).splitlines()
    assert "in force" in shown
    assert "0 go within 0 days" in await bridge.command("retention", "plan", "--days", "0")


async def test_who_is_not_named_is_refused_and_that_is_recorded(bridge: Bridge) -> None:
    with pytest.raises(CommandFailedError, match=r"not among administrators\.compliance"):
        await bridge.command(
            "hold", "place", "role", "cardiology", "--by", "@mallory:nightbell.test", "--reason", "-"
        )
    assert '"action":"refused","actor":"@mallory:nightbell.test"' in await bridge.command("ledger", "export")


async def test_no_page_is_opened_that_is_not_there_and_none_is_told_of(bridge: Bridge) -> None:
    with pytest.raises(CommandFailedError, match="there is no page 7"):
        await bridge.command("break-glass", "--page", "7", *BY, "--reason", "drill")
    assert '"opened"' not in await bridge.command("ledger", "export")


async def test_the_glass_can_be_broken_loudly(bridge: Bridge) -> None:
    plan = await bridge.command("retention", "plan", "--days", "400")
    page = plan.splitlines()[1].split()[2]
    said = await bridge.command("break-glass", "--page", page, *BY, "--reason", "on-call phone lost")
    assert "Bed 12" in said
    assert '"action":"opened","actor":"@operator:nightbell.test"' in await bridge.command("ledger", "export")
