"""Calls out of Asterisk's call detail records: the captured file, and a table."""

from __future__ import annotations

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.channels import cdr
from bridge.channels.cdr import CdrSettings, RecordedCall, calls_of, open_records
from bridge.channels.cdr_table import Row
from bridge.channels.channel import Recount
from bridge.config.problems import ConfigError
from bridge.model.errors import SourceError
from bridge.model.event import EventKind
from bridge.model.phi import Phi
from tests.channels.wire import ASTERISK, RememberingInbox, opened

MASTER = Path(__file__).parent / "captures" / "asterisk" / "Master.csv"
DAY = datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)


def record(uniqueid: str, *, linkedid: str = "", **fields: str) -> Row:
    empty = {
        "src": "",
        "dst": "600",
        "dcontext": "inbound",
        "clid": "",
        "channel": "PJSIP/trunk-1",
        "lastdata": "",
    }
    rest = {"duration": "4", "disposition": "NO ANSWER", "lastapp": "Queue"}
    return empty | rest | fields | {"uniqueid": uniqueid, "linkedid": linkedid}


def recount(section: str) -> Recount:
    found = opened(section.replace("PORT", "1"), RememberingInbox()).recount
    assert found is not None
    return found


async def test_the_captured_file_has_the_calls_that_nobody_took() -> None:
    events = await recount(f"{ASTERISK}cdr: {{file: {MASTER}, contexts: [inbound]}}\n")(*DAY)
    assert [(event.key, event.kind, event.caller, event.caller_name) for event in events] == [
        (Phi("pbx1-1795492857.3"), EventKind.ABANDONED_CALL, Phi("+15550001111"), Phi("Maria Lopez")),
        (Phi("pbx1-1795492864.6"), EventKind.VOICEMAIL, Phi("+15550001111"), Phi("Maria Lopez")),
    ]
    waited, left = events
    assert (waited.queue, waited.called, waited.recipient) == (Phi("nobody"), Phi("602"), None)
    assert (left.recipient, left.attributes["mailbox"]) == (Phi("100@default"), Phi("100@default"))
    assert waited.occurred_at == datetime(2026, 11, 24, 4, 0, 57, tzinfo=UTC)


@pytest.mark.parametrize("box", ["100@default,us", "100,u", "100@default&101@default"])
async def test_a_message_that_only_the_records_tell_of_is_heard(tmp_path: Path, box: str) -> None:
    channel = "Local/720@inbound-00000006;2"
    row = ["", "", "600", "inbound", "", channel, "", "VoiceMail", box, "", "", "", "13", "13", "ANSWERED"]
    with (tmp_path / "Master.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(
            [*row, "DOCUMENTATION", "1795492902.16", "", "", "1795492902.16", "1"]
        )
    shutil.copytree(MASTER.parent / "voicemail_spool", tmp_path / "default" / "100" / "INBOX")
    section = f"{ASTERISK}spool: {tmp_path}\ncdr: {{file: {tmp_path / 'Master.csv'}}}\n"
    door = opened(section.replace("PORT", "1"), RememberingInbox())
    assert door.recount is not None
    assert door.media is not None
    [event] = await door.recount(*DAY)
    assert (event.kind, event.recipient) == (EventKind.VOICEMAIL, Phi("100@default"))
    recording = (MASTER.parent / "voicemail_spool" / "msg0001.WAV").read_bytes()
    assert (await door.media.fetch(event.attachments[0])).content == Phi(recording)
    text = tmp_path / "default" / "100" / "INBOX" / "msg0001.txt"
    text.write_text(text.read_text().replace("duration=5", "duration=0"))
    [event] = await door.recount(*DAY)
    assert (event.kind, event.attachments) == (EventKind.MISSED_CALL, ())


async def test_only_calls_that_ended_in_the_time_asked_for_are_found() -> None:
    ended = datetime(2026, 11, 24, 4, 1, 1, tzinfo=UTC)
    settings = CdrSettings(file=MASTER)
    assert [call.linkedid for call in await open_records(settings)(ended, ended)] == ["pbx1-1795492857.3"]
    later = ended + timedelta(seconds=1)
    assert await open_records(settings)(later, later) == []


def one(*rows: Row, contexts: tuple[str, ...] = ()) -> RecordedCall | None:
    found = calls_of(rows, datetime(2001, 9, 9, tzinfo=UTC), datetime(2001, 9, 10, tzinfo=UTC), contexts)
    assert len(found) <= 1
    return found[0] if found else None


LATER = record("1000000000.1", start="2001-09-09 03:47:40")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([record("1000000000.1")], True),
        ([record("1000000000.1", disposition="ANSWERED")], False),
        ([record("1000000000.1", lastapp="Dial", disposition="BUSY")], True),
        ([record("1000000000.1", lastapp="Hangup", disposition="ANSWERED")], False),
        ([record("1000000000.1", lastapp="Dial"), record("1000000000.1", disposition="ANSWERED")], False),
        # Answered, and sent back to a queue; in whatever order the records come.
        ([LATER, record("1000000000.1", disposition="ANSWERED", start="2001-09-09 03:46:40")], True),
        # Several were rung at once, and one took the call.
        (
            [
                record("1000000000.1", disposition="ANSWERED", start="2001-09-09 03:46:40", duration="90"),
                record("1000000000.1", start="2001-09-09 03:46:40"),
            ],
            False,
        ),
        ([record("1000000000.1", channel="Local/201@agents-1;2")], False),
        ([record("1000000000.2", linkedid="1000000000.1", lastapp="VoiceMail")], True),
        (
            [
                record("1000000000.1", linkedid="1000000000.1", disposition="ANSWERED"),
                record("1000000000.2", linkedid="1000000000.1", lastapp="Dial"),
            ],
            False,
        ),
        ([record("not a time")], False),
    ],
)
def test_a_recorded_call_is_found_if_nobody_took_it(rows: list[Row], found: bool) -> None:  # noqa: FBT001
    assert (one(*rows) is not None) == found


def test_a_call_ends_when_the_last_of_its_records_does_in_whatever_zone_they_are() -> None:
    waits = record("1000000000.1", start="2001-09-09 03:46:40", duration="1500")
    again = record("1000000000.1", start="2001-09-09 04:11:40.000", duration="1500.0")
    ended = datetime.fromtimestamp(1_000_003_000, UTC)
    assert len(calls_of([waits, again], ended, ended)) == 1


def test_only_the_contexts_that_count_are_looked_at() -> None:
    assert one(record("1000000000.1"), contexts=("inbound", "ext-queues"))
    assert not one(record("1000000000.1"), contexts=("internal",))


async def test_a_long_file_is_read_from_its_end_and_a_half_written_line_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr, "READ_AT_FIRST", 300)
    old = MASTER.read_bytes().splitlines()[3].replace(b"1795492857.3", b"1790000000.1") + b"\n"
    file = tmp_path / "Master.csv"
    file.write_bytes(old * 1000 + MASTER.read_bytes() + b'"","+1555')
    assert len(await open_records(CdrSettings(file=file))(*DAY)) == 2
    monkeypatch.setattr(cdr, "READ_AT_MOST", 1000)
    with pytest.raises(SourceError, match="rotate the file"):
        await open_records(CdrSettings(file=file))(*DAY)


async def test_a_file_that_was_just_rotated_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "Master.csv.1").write_bytes(MASTER.read_bytes())
    (tmp_path / "Master.csv").write_bytes(b"")
    assert len(await open_records(CdrSettings(file=tmp_path / "Master.csv"))(*DAY)) == 2


async def test_a_file_that_is_not_there_is_a_trouble(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        await open_records(CdrSettings(file=tmp_path / "Master.csv"))(*DAY)


def test_a_file_and_a_database_are_one_too_many(inbox: RememberingInbox) -> None:
    assert opened(ASTERISK.replace("PORT", "1"), inbox).recount is None
    with pytest.raises(ConfigError, match="give either file or database"):
        opened(f"{ASTERISK}cdr: {{contexts: [inbound]}}\n".replace("PORT", "1"), inbox)
    with pytest.raises(ConfigError, match="certificate is for tls"):
        opened(f"{ASTERISK}cdr: {{database: 'env:X', certificate: {MASTER}}}\n".replace("PORT", "1"), inbox)
