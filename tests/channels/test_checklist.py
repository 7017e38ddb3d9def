"""A channel that lacks something of the checklist is told what to do about it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.channels import CHANNEL_TYPES, asterisk, http, smtp, snpp, tcp
from bridge.channels.ami import MAX_MESSAGE
from bridge.channels.channel import Channel, ChannelType, Surroundings
from bridge.config.values import Section
from bridge.model.event import EventKind
from bridge.model.ids import ChannelId
from tests.channels.checklist import DOORS, ROOT, lacks, unregistered
from tests.channels.wires import WIRES


@pytest.mark.parametrize("name", sorted(CHANNEL_TYPES))
def test_a_channel_lacks_nothing(name: str) -> None:
    assert lacks(name) == []


def test_every_channel_that_has_a_file_is_one() -> None:
    assert unregistered() == []


class BareSettings(Section):
    pin: str


BareSettings.__doc__ = None


def build(channel: ChannelId, _settings: BareSettings, _around: Surroundings) -> Channel:
    return Channel(channel, "pbx")


def test_a_new_channel_is_told_all_that_it_lacks_in_a_sentence_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bridge" / "channels").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / DOORS).write_text((ROOT / DOORS).read_text())
    (tmp_path / "bridge" / "channels" / "pbx.py").write_text('PBX = ChannelType("pbx", PbxSettings, build)\n')
    assert unregistered(tmp_path) == [
        "Write PBX of bridge/channels/pbx.py into the list of bridge/channels/__init__.py."
    ]
    monkeypatch.setitem(CHANNEL_TYPES, "pbx", ChannelType("pbx", BareSettings, build, (EventKind.PAGE,)))
    assert unregistered(tmp_path) == []
    told = lacks("pbx", tmp_path)
    for needed in (
        "a docstring",
        "the setting pin",
        "tests/channels/test_pbx.py",
        "numbered steps",
        "an example",
        '"What becomes of a request"',
        '"Proof that nothing was lost"',
        "a row for `pin`",
        "the first table of docs/doors.md",
        "a Wire for HTTP, a Talk for any other",
        "tests/channels/captures",
        "PARSERS",
    ):
        assert any(needed in sentence for sentence in told), needed
    assert all(re.match(r"[A-Z].*\.$", sentence) for sentence in told)


KIB = 1024
PER_MINUTE = tcp.ListenerSettings.model_fields["per_minute"].default


@pytest.mark.parametrize(
    "bound",
    [
        f"{http.MAX_BODY // KIB} KiB of a body: 413",
        f"{tcp.MAX_LINE // KIB} KiB a line, {snpp.MAX_TEXT // KIB} KiB a message, {snpp.MAX_RECIPIENTS} pagers: 421",
        f"{smtp.MAX_MAIL // KIB**2} MiB: 552; {smtp.MAX_RECIPIENTS} addresses: 452",
        f"{MAX_MESSAGE // KIB} KiB a message: the connection is left",
        f"{http.SILENT_SECONDS:g} s for the head: 408; {http.BODY_SECONDS:g} s for the body: 408",
        f"idle: closed after {http.IDLE_SECONDS:g} s",
        f"{snpp.SILENT_SECONDS:g} s for a line, {tcp.SESSION_SECONDS:g} s in all: 421",
        f"{smtp.SILENT_SECONDS:g} s of silence, {smtp.SESSION_SECONDS:g} s in all: 421",
        f"{asterisk.QUIET_SECONDS:g} s of silence: it is asked; {asterisk.QUIET_SECONDS:g} s more",
        f"{http.PER_MINUTE} requests a minute and channel: 429",
        f"{PER_MINUTE} pages a minute: 421 | {PER_MINUTE} mails a minute: 450",
        f"{http.MAX_CONNECTIONS}, and {http.MAX_OF_ONE} of one address: 503",
        f"{tcp.MAX_CONNECTIONS}, and {tcp.MAX_OF_ONE} of one address: 421",
        f"{smtp.MAX_CONNECTIONS}, and {smtp.MAX_OF_ONE} of one address: 421",
    ],
)
def test_the_bounds_in_the_documentation_are_those_of_the_code(bound: str) -> None:
    assert bound in (ROOT / DOORS).read_text()


@pytest.mark.parametrize("name", sorted(CHANNEL_TYPES))
def test_whose_source_can_be_asked_in_the_documentation_has_a_setting_for_it(name: str) -> None:
    [last] = re.findall(rf"^\| \[{name}\].*\| ([^|]*) \|$", (ROOT / DOORS).read_text(), re.MULTILINE)
    askable = {"reconcile", "cdr"} & set(CHANNEL_TYPES[name].settings.model_fields)
    assert last.startswith("yes" if askable else "no")


@pytest.mark.parametrize("name", sorted(WIRES))
def test_the_signed_times_in_the_documentation_are_those_that_are_tried(name: str) -> None:
    [row] = re.findall(rf"^\| \[{name}\].*$", (ROOT / DOORS).read_text(), re.MULTILINE)
    clock = WIRES[name].clock
    written = {
        None: "nobody's",
        (timedelta(minutes=5), timedelta(minutes=5)): "the signed time: 5 minutes either way",
        (timedelta(days=1), timedelta(minutes=5)): "the signed time: a day old, 5 minutes ahead",
    }
    assert f"| {written[clock]} |" in row
