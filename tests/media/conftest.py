"""One hospital whose pages have recordings and pictures: from mail, from an Asterisk's spool, from Twilio."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital
from testbed.process import free_port
from testbed.shift import Shift
from testbed.wards import own_config, write_config
from tests.channels.pbx import Pbx, pbx
from tests.channels.signers import AMI_SECRET
from tests.channels.test_fetching import Far, twilios_api

SMTP_PORT = free_port()
RULE = {"id": "media", "when": {"channel": ["mail", "pbx", "line"]}, "then": {"role": "cardiology"}}
TWILIO_TOKEN = "token-of-the-line"
CAPTURES = Path(__file__).parents[1] / "channels" / "captures"


@pytest.fixture(scope="package")
async def exchange() -> AsyncIterator[Pbx]:
    async with pbx(Pbx()) as made:
        yield made


@pytest.fixture(scope="package")
async def far() -> AsyncIterator[Far]:
    async with twilios_api(Far()) as made:
        yield made


@pytest.fixture(scope="package")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("spool")
    shutil.copytree(CAPTURES / "asterisk" / "voicemail_spool", directory / "default" / "100" / "INBOX")
    return directory


@pytest.fixture(scope="package")
async def hospital(
    tmp_path_factory: pytest.TempPathFactory, exchange: Pbx, far: Far, spool: Path
) -> AsyncIterator[Hospital]:
    directory = tmp_path_factory.mktemp("media")
    (directory / "ami").write_text(AMI_SECRET)
    (directory / "twilio").write_text(TWILIO_TOKEN)
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
        "pbx": {
            "type": "asterisk",
            "host": "127.0.0.1",
            "port": exchange.port,
            "username": "bridge",
            "secret": f"file:{directory / 'ami'}",
            "spool": str(spool),
            "delete_recordings": True,
        },
        "line": {
            "type": "twilio",
            "auth_token": f"file:{directory / 'twilio'}",
            "api": far.url,
            "delete_media": True,
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
    mail = CAPTURES / "voicemail_mail" / "vm-1795492915573532593.eml"
    return mail.read_bytes().replace(b"\n", b"\r\n")
