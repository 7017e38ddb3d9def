from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from ruamel.yaml import YAML

from bridge.cli import main
from testbed.process import free_port
from testbed.wards import own_config, write_config
from tests.channels.wires import SECTIONS
from tests.cli.test_policy_commands import write

PAGES = Path(__file__).parents[2] / "docs" / "channels"


def test_channels_lists_each_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nightbell", "channels", "--config", str(write(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "sms (twilio)" in said
    assert "/intake/sms" in said
    assert "last event  never" in said
    assert not list(tmp_path.glob("**/*.db"))  # to look makes no database


def test_what_it_lists_can_be_given_to_the_source_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = own_config()
    documents["nightbell.yaml"]["channels"] = {
        name: YAML(typ="safe").load(SECTIONS[name]) for name in ("smtp", "kannel")
    } | {"snpp": {"type": "snpp", "host": "::", "port": 444, "peers": "10.1.2.0/24"}}
    config = write_config(tmp_path / "config", documents)
    monkeypatch.setattr(sys, "argv", ["nightbell", "channels", "--config", str(config)])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "for mail to RECIPIENT@pager.example" in said
    assert "this machine port 444" in said
    post_url = re.search(r'post-url = "(.*?)"', (PAGES / "kannel.md").read_text())
    assert post_url is not None
    assert post_url[1].partition("?")[2] in said


def test_it_does_not_take_a_database_that_is_away_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, nightbell_yaml = write(tmp_path), tmp_path / "nightbell.yaml"
    document = json.loads(nightbell_yaml.read_text())
    document["database"] = {"url": f"postgresql://127.0.0.1:{free_port()}/nightbell"}
    nightbell_yaml.write_text(json.dumps(document))
    monkeypatch.setattr(sys, "argv", ["nightbell", "channels", "--config", str(config)])
    with pytest.raises(SystemExit):
        main()
    assert "last event  unknown: the database does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_example_of_a_channels_page_is_taken_by_check(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put into the repository's own configuration, as its reader does: the channel, what may be added to it, rules."""
    documents = own_config()
    examples = [YAML(typ="safe").load(dedent(block)) for block in yaml_in(page.read_text())]
    [[name, channel]] = examples[0]["channels"].items()
    for more in examples[1:]:
        if isinstance(more, list):
            documents["routing.yaml"]["rules"] = [*more, *documents["routing.yaml"]["rules"]]
        else:
            channel |= more
    documents["nightbell.yaml"]["channels"] = {name: channel}
    config = write_config(tmp_path / "config", documents)
    monkeypatch.setattr(sys, "argv", ["nightbell", "check", "--config", str(config)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err


def yaml_in(page: str) -> list[str]:
    return re.findall(r"^ *```yaml\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
