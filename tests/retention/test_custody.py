"""The ledger tells what became of a page, from the patient's text to the clinician's tap."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital

NUMBER = "+15550007001"


async def records(hospital: Hospital) -> list[dict[str, Any]]:
    lines = (await hospital.bridge.command("ledger", "export")).splitlines()
    return [record for line in lines if "seq" in (record := json.loads(line))]


async def test_every_step_of_a_page_is_on_record_and_none_of_its_words(
    audited: Hospital, okafor: Clinician
) -> None:
    hospital, ada = audited, okafor
    await hospital.text("Bed 12 has no pulse", sender=NUMBER)
    page = await ada.message("Bed 12 has no pulse")
    await ada.react(page.event_id, "✅")
    async with asyncio.timeout(30):
        while not any(record["action"] == "accepted" for record in await records(hospital)):
            await asyncio.sleep(0.5)
    found = await records(hospital)
    routed = next(record for record in found if record["action"] == "routed")
    sent = next(
        record for record in found if record["action"] == "sent" and record.get("page") == routed["page"]
    )
    shared = [record for record in found if record["objects"].get("session") == sent["objects"]["session"]]
    accepted = next(record for record in found if record["action"] == "accepted")
    received = next(record for record in found if record["action"] == "received")
    login = next(record for record in found if record["action"] == "logged_in")
    assert (login["actor"], login["outcome"]) == ("@nightbell:nightbell.test", "done")
    assert login["objects"]["device"]
    assert received["actor"] == "channel:clinic-sms"
    assert received["patient"] == routed["patient"]
    assert (routed["objects"]["rule"], routed["objects"]["role"]) == ("cardiology-line", "cardiology")
    assert sent["objects"]["event"] == page.event_id
    devices = [device for record in shared for device in record["objects"].get("shared", [])]
    assert any(device.startswith("@okafor:nightbell.test/") for device in devices)
    assert (accepted["actor"], accepted["page"]) == ("@okafor:nightbell.test", routed["page"])
    whole = json.dumps(found)
    assert "pulse" not in whole
    assert "7001" not in whole.replace(routed["patient"], "")


async def test_a_signature_is_read_by_a_members_client_and_shows_an_export_that_was_cut_short(
    audited: Hospital, okafor: Clinician, tmp_path: Path
) -> None:
    await audited.text("Bed 14 asks for water")
    await okafor.message("Bed 14 asks for water")
    said = await okafor.message("The ledger stood here")
    kept, ledger, cut = (tmp_path / name for name in ("kept.jsonl", "ledger.jsonl", "cut.jsonl"))
    kept.write_text(said.body.splitlines()[-1] + "\n")
    await audited.bridge.command("ledger", "export", "--output", str(ledger))
    lines = ledger.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[: lines.index(kept.read_text()) - 1]))
    key = (await audited.bridge.command("ledger", "public-key")).strip()
    words = ("--public-key", key, "--anchor", str(kept))
    verified = await audited.bridge.command("ledger", "verify", str(ledger), *words, configured=False)
    assert "from the beginning" in verified
    with pytest.raises(CommandFailedError, match="the end is missing: an anchor vouches for record"):
        await audited.bridge.command("ledger", "verify", str(cut), *words, configured=False)
