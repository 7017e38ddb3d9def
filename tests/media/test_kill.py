"""kill -9 at any point: each recording is uploaded once, and stands once below its page."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections import Counter
from contextlib import closing

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital
from tests.durability.bursts import quiet
from tests.media.conftest import SMTP_PORT
from tests.media.listening import below, mail
from tests.scenarios.story import rows

SEED = int(os.environ.get("NIGHTBELL_TEST_SEED", random.randrange(10**6)))
MAILS = 8
A_WHILE = 0.8  # seconds; about what a recording takes from its mail to the room


def uploads(hospital: Hospital) -> list[str]:
    """What was ever uploaded, from the homeserver's own database."""
    query = "SELECT media_id FROM local_media_repository WHERE media_length IS NOT NULL"
    with closing(
        sqlite3.connect(f"file:{hospital.synapse.database_path}?mode=ro", uri=True, timeout=30)
    ) as database:
        return [media for (media,) in database.execute(query)]


async def test_recordings_survive_a_kill_at_any_point(
    okafor: Element, operator: Clinician, hospital: Hospital, voicemail_mail: bytes
) -> None:
    assert operator.rooms_with_keys  # or notices would wait for ever
    chance = random.Random(SEED)
    before = len(uploads(hospital))
    for number in range(MAILS):
        marked = voicemail_mail.replace(b"Asterisk-2-", f"Asterisk-kill{number}-".encode())
        await mail(
            SMTP_PORT, marked.replace(b"mailbox 100\r\nMessage-ID", f"box {number}\r\nMessage-ID".encode())
        )
        await asyncio.sleep(chance.uniform(0, A_WHILE))
        await hospital.bridge.kill()
        await hospital.bridge.start()
    pages = [await okafor.message(f"New message 2 in box {number}", 60) for number in range(MAILS)]

    def heard() -> Counter[str]:
        return Counter(
            page.event_id for page in pages for event in below(okafor, page) if "file" in event.content
        )

    await okafor.wait_for(lambda: len(heard()) == MAILS, 60)
    await quiet(hospital)
    assert set(heard().values()) == {1}, f"seed {SEED}"
    assert len(uploads(hospital)) == before + MAILS, f"seed {SEED}"
    states = rows(hospital, "SELECT DISTINCT state FROM attachment WHERE channel = 'mail'")
    assert states == [("uploaded",)]
