from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bridge.matrix.registration import new_registration, read_registration
from testbed.bridge import ROOT

EXAMPLE = ROOT / "registration.yaml.example"
FRESH = {"as_token", "hs_token", "sender_localpart"}


def read(text: str) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(text)
    return document


def test_the_example_is_what_the_command_writes_but_for_what_is_fresh() -> None:
    example, written = read(EXAMPLE.read_text()), read(new_registration("nightbell", "nightbell.test"))
    assert example.keys() == written.keys()
    for key in example.keys() - FRESH:
        assert example[key] == written[key], key


def test_every_key_of_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text().splitlines()
    explained = [
        key
        for key in read(EXAMPLE.read_text())
        if lines[next(n for n, line in enumerate(lines) if line.startswith(f"{key}:")) - 1].startswith("#")
    ]
    assert explained == list(read(EXAMPLE.read_text()))


def test_the_example_holds_no_token_that_works(tmp_path: Path) -> None:
    tokens = {read_registration(EXAMPLE).as_token, read(EXAMPLE.read_text())["hs_token"]}
    assert all(token.endswith("-long-random-string") for token in tokens)
