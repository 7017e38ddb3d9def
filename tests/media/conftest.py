"""One hospital whose pages have recordings and pictures: from mail, from an Asterisk's spool, from Twilio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import own_config, write_config
from tests.channels.wire import free_port

SMTP_PORT = free_port()
RULE = {"id": "media", "when": {"channel": ["mail"]}, "then": {"role": "cardiology"}}


@pytest.fixture(scope="package")
async def hospital(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("media")
    documents = own_config()
    documents["routing.yaml"]["rules"] = [RULE, *documents["routing.yaml"]["rules"]]
    documents["nightbell.yaml"]["channels"] |= {
        "mail": {
            "type": "smtp",
            "port": SMTP_PORT,
            "peers": "127.0.0.1",
            "domains": "pager.example",
            "require_tls": False,
        },
    }
    config = write_config(directory / "config", documents)
    async with Hospital(directory, config=config) as opened:
        yield opened


@pytest.fixture(scope="package")
async def shift(hospital: Hospital) -> AsyncIterator[Shift]:
    async with Shift(hospital) as opened:
        yield opened


@pytest.fixture(scope="package")
async def okafor(hospital: Hospital, shift: Shift) -> Element:
    reader = await shift.element("okafor")
    await reader.meet(hospital.bot)
    await reader.entrusted()
    return reader


@pytest.fixture(scope="package")
async def operator(shift: Shift) -> Clinician:
    client = await shift.nio("operator")
    await client.entrusted()
    return client


@pytest.fixture(scope="session")
def voicemail_mail() -> bytes:
    """As Asterisk sends one, with wav49 attached."""
    captures = Path(__file__).parents[1] / "channels" / "captures" / "voicemail_mail"
    return (captures / "vm-1795492915573532593.eml").read_bytes().replace(b"\n", b"\r\n")
