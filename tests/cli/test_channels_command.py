from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.cli import main
from tests.cli.test_policy_commands import write


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
