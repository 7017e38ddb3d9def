"""The ledger tells what became of a page, from the patient's text to the clinician's tap."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from testbed.hospital import Hospital

NUMBER = "+15550007001"


async def records(hospital: Hospital) -> list[dict[str, Any]]:
    lines = (await hospital.bridge.command("ledger", "export")).splitlines()
    return [record for line in lines if "seq" in (record := json.loads(line))]


async def test_every_step_of_a_page_is_on_record_and_none_of_its_words(tmp_path: Path) -> None:
    async with Hospital(tmp_path) as hospital:
        ada = await hospital.clinician("okafor")
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
        shared = [
            record for record in found if record["objects"].get("session") == sent["objects"]["session"]
        ]
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
