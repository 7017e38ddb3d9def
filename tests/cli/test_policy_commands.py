from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from bridge.cli import main
from bridge.model.ids import PersonId, UserId
from bridge.store import nodes, shifts
from bridge.store.database import Database
from bridge.store.shifts import Held
from tests.policy.hospital import CARDIOLOGY, documents, local, role

ZOE = UserId("@zoe:nightbell.test")

DAY = {"layers": [{"people": "ana", "only": {"hours": "00:00-23:50"}}]}
TWILIO = {"type": "twilio", "auth_token": "env:TOKEN"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(directory: Path, **changes: Any) -> Path:
    files = documents(**changes)
    files["nightbell.yaml"] = files["nightbell.yaml"] | {"channels": {"sms": TWILIO}}
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value, indent=1))
    return directory


def nightbell(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nightbell", *arguments])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_check_says_that_somebody_is_always_found(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightbell(monkeypatch, "check", "--config", str(directory)) == 0
    assert "somebody is always found" in capsys.readouterr().out


def test_check_names_a_gap_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, roles={"switchboard": role(schedule=DAY)})
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/roles.yaml:" in said
    assert 'role "switchboard" has nobody from' in said


def test_check_reads_the_channels_own_sections(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / "nightbell.yaml"
    path.write_text(path.read_text().replace("auth_token", "auth_tocken"))
    assert nightbell(monkeypatch, "check", "--config", str(directory)) == 1
    assert 'unknown key "auth_tocken"; did you mean "auth_token"?' in capsys.readouterr().err


def test_check_of_a_file_that_is_not_there_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == 1
    assert "this file can't be read" in capsys.readouterr().err


def test_explain_shows_the_rule_and_the_ladder_with_clock_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [
        {"id": "days", "when": {"called": "+1555*", "hours": "08:00-18:00"}, "then": {"role": "cardiology"}},
        {"id": "nights", "when": {"called": "+15550100"}, "then": {"role": "cardiology", "priority": "stat"}},
    ]
    write(tmp_path, rules=rules)
    arguments = ("--channel", "sms", "--to", "+1 555 0100", "--at", "2026-12-25 02:00")
    assert nightbell(monkeypatch, "explain", "--config", str(tmp_path), *arguments) == 0
    said = capsys.readouterr().out
    assert "✗ rule days" in said
    assert "time is not true (called true)" in said
    assert "✓ rule nights" in said
    assert "  02:01:00  again       Dr. Ana Meyer\n  02:02:00  next        Dr. Ben Meyer" in said


def test_explain_knows_what_the_source_says_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pressed = {"id": "pressed", "when": {"attributes": {"digits": "1"}}, "then": {"role": "cardiology"}}
    config = ("--config", str(write(tmp_path, rules=[pressed])), "--channel", "sms")
    assert nightbell(monkeypatch, "explain", *config, "--attribute", "digits=1") == 0
    assert "✓ rule pressed" in capsys.readouterr().out
    assert nightbell(monkeypatch, "explain", *config, "--attribute", "digits=2") == 0
    assert "attributes is not true" in capsys.readouterr().out
    assert nightbell(monkeypatch, "explain", *config, "--attribute", "digits") != 0


def test_explain_of_an_unknown_channel_names_the_known_ones(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightbell(monkeypatch, "explain", "--config", str(directory), "--channel", "smms") != 0
    assert 'did you mean "sms"?' in " ".join(capsys.readouterr().err.split())


def test_oncall_names_each_roles_holder_and_who_is_asked_after(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightbell(monkeypatch, "oncall", "--config", str(directory), "--at", "2026-12-25 02:00") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Cardiology on call: Dr. Ana Meyer",
        "    after that: Dr. Ben Meyer, Dr. Cleo Meyer, Dr. Dora Meyer",
    ]


def test_a_calendar_shows_the_shortest_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, roles={"cardiology": role(schedule=DAY)})
    assert nightbell(monkeypatch, "calendar", "--config", str(tmp_path), "--days", "2") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Cardiology"))
    assert row.count("!") == 2


def test_an_svg_calendar_has_a_red_block_for_each_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, roles={"cardiology": role("A & <B>", schedule=DAY)})
    picture = tmp_path / "calendar.svg"
    arguments = ("--at", "2026-10-24", "--days", "3", "--output", str(picture))
    assert nightbell(monkeypatch, "calendar", "--config", str(tmp_path), *arguments) == 0
    blocks = ET.fromstring(picture.read_text()).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - ours
    assert [block.get("fill") for block in blocks].count("#d00000") == 3


def test_a_png_calendar_shows_a_gap_in_red_and_names_in_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, roles={"cardiology": role(schedule=DAY)})
    pictures = [tmp_path / name for name in ("with.png", "without.png")]
    for picture in pictures:
        arguments = ("--at", "2026-10-24", "--days", "3", "--output", str(picture))
        assert nightbell(monkeypatch, "calendar", "--config", str(tmp_path), *arguments) == 0
        monkeypatch.setattr("bridge.cli.calendar_svg.escape", lambda _: "")  # the second time without names
    found = [Image.open(picture).convert("RGB") for picture in pictures]
    assert found[0].size == (2 * (220 + 3 * 90), 2 * (30 + 2 * 34 + 4))
    colours = [{colour: count for count, colour in picture.getcolors(10**6) or ()} for picture in found]
    assert (0xD0, 0, 0) in colours[0]
    assert colours[0][0, 0, 0] > colours[1][0, 0, 0]


@pytest.mark.parametrize("name", ["calendar.gif", "missing/calendar.png"])
def test_a_calendar_that_cannot_be_drawn_there_says_why(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--config", str(directory), "--output", str(directory / name))
    assert nightbell(monkeypatch, "calendar", *arguments) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "should end in .svg or .png" in said or "No such file or directory" in said


@pytest.mark.parametrize(
    ("when", "wrong"),
    [
        ({"channel": ["sms", "door"]}, True),
        ({"channel": "sms"}, False),
        ({}, True),
        ({"any": [{"channel": "sms", "words": "pain"}, {"channel": "sms", "words": "fall"}]}, False),
        ({"any": [{"channel": "sms"}, {"words": "fall"}]}, True),
        ({"all": [{"channel": ["sms", "door"]}, {"channel": "sms"}]}, False),
    ],
)
def test_check_refuses_an_auto_reply_on_a_channel_that_has_no_way_back(
    when: Any,
    wrong: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(
        tmp_path, rules=[{"when": when, "then": {"role": "cardiology", "auto_reply": "We called a doctor."}}]
    )
    door = {"type": "webhook", "secrets": ["env:SECRET"]}
    file = tmp_path / "nightbell.yaml"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"channels": {"sms": TWILIO, "door": door}}))
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == int(bool(wrong))
    said = capsys.readouterr().err
    assert ('"auto_reply" can\'t be sent by channel "door", whose source takes no answer' in said) == wrong


def test_check_refuses_a_speech_model_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    file = tmp_path / "nightbell.yaml"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"transcription": {"model": "small"}}))
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "nightbell.yaml:1:" in said
    assert f"recordings would not be transcribed: {tmp_path / 'small'} is no folder" in said


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(
    ("settings", "needed", "value"),
    [
        (
            {"type": "telnyx", "public_keys": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="},
            "api_key",
            "env:KEY",
        ),
        (
            {"type": "vonage", "secrets": "env:SECRET"},
            "application",
            {"id": "78d335fa-323d", "private_key": "env:PEM"},
        ),
    ],
)
def test_check_asks_for_what_an_auto_reply_is_sent_with(
    settings: dict[str, Any],
    needed: str,
    value: Any,
    *,
    given: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path, fallback={"role": "switchboard", "auto_reply": "We called a doctor."})
    file = tmp_path / "nightbell.yaml"
    document = json.loads(file.read_text())
    door = settings | ({needed: value} if given else {})
    file.write_text(json.dumps(document | {"channels": {"door": door}}))
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == int(not given)
    said = capsys.readouterr().err
    assert (f'"auto_reply" can\'t be sent by channel "door", which needs "{needed}" to send it' in said) is (
        not given
    )


def test_check_refuses_an_auto_reply_that_no_text_can_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    then = {"role": "cardiology", "auto_reply": "We called a doctor."}
    write(tmp_path, rules=[{"when": {"kind": ["voicemail"]}, "then": then}])
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == 1
    assert '"auto_reply" answers texts, and the rule\'s "kind" has no text' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Hello {caller}", "it has no placeholders"),
        (" ", "should have 1 to 320"),
        ("x" * 321, "should have 1 to 320"),
    ],
)
def test_check_refuses_an_auto_reply_that_is_not_fixed_words(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, fallback={"role": "switchboard", "auto_reply": words})
    assert nightbell(monkeypatch, "check", "--config", str(tmp_path)) == 1
    assert said in capsys.readouterr().err


def test_explain_says_what_the_sender_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, fallback={"role": "switchboard", "auto_reply": "We called a doctor."})
    assert nightbell(monkeypatch, "explain", "--config", str(tmp_path), "--channel", "sms") == 0
    assert "told, unless they want no texts: We called a doctor." in capsys.readouterr().out


def test_oncall_of_a_time_that_has_passed_tells_what_is_on_record(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def live_through() -> None:
        database = Database(f"sqlite:///{directory / 'nightbell.db'}")
        await database.migrate()
        async with database.write() as connection:
            record = Held(CARDIOLOGY, local("2026-11-02 08:00"), PersonId("zoe"), ZOE, "f" * 64)
            await shifts.record_holder(connection, record)
            await nodes.beat(connection, nodes.this_node(), (), local("2026-11-10 12:00"))
        await database.close()

    asyncio.run(live_through())
    at = ("oncall", "--config", str(directory), "--at")
    assert nightbell(monkeypatch, *at, "2026-11-10 11:00") == 0
    said = capsys.readouterr().out
    assert (
        "Cardiology on call: @zoe:nightbell.test since Mon 02 Nov 08:00 (on record; rules ffffffffffff)"
        in said
    )
    assert "Switchboard: Dr. Ana Meyer" in said
    for when in ("2026-11-02 07:59", "2026-11-10 13:00"):
        assert nightbell(monkeypatch, *at, when) == 0
        assert "Cardiology on call: Dr. Ana Meyer" in capsys.readouterr().out
