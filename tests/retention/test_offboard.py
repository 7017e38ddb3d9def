"""Somebody who leaves is out of every room and every key within a minute."""

from __future__ import annotations

import pytest

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician
from testbed.hospital import Hospital


async def test_who_leaves_reads_nothing_more_and_an_administrator_is_one_no_more(
    audited: Hospital, okafor: Clinician
) -> None:
    hospital, ada = audited, okafor
    grace = await hospital.clinician("lindqvist")
    await hospital.text("before it all")
    await ada.message("before it all")
    await grace.message("before it all")
    leaver = hospital.user_id("lindqvist")
    with pytest.raises(CommandFailedError, match=r'nobody here knows .*; did you mean "@lindqvist:'):
        await hospital.bridge.command(
            "offboard", "@lindquist:nightbell.test", "--by", "@operator:nightbell.test"
        )
    said = await hospital.bridge.command("offboard", leaver, "--by", "@operator:nightbell.test")
    assert "is in none after" in said
    assert "the homeserver says so" in said
    assert "of the ledger" in said
    assert "roles.yaml still names" in said
    with pytest.raises(CommandFailedError) as examined:  # nobody else of the files has a session here
        await hospital.bridge.command("doctor")
    assert f"({leaver}) is named by the files and was taken out" in str(examined.value)
    assert f"({leaver}) can be reached" not in str(examined.value)
    await hospital.text("after it all")
    await ada.message("after it all")
    assert not any("after it all" in message.body for message in grace.messages)

    by = "@operator:nightbell.test"
    await hospital.bridge.command("offboard", by, "--by", by)
    with pytest.raises(CommandFailedError, match="was taken out"):
        await hospital.bridge.command("vault", "rotate", "--by", by)
    assert '"outcome":"taken_out"' in await hospital.bridge.command("ledger", "export")
