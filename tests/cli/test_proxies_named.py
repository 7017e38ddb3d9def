"""`nightbell doctor` advises to name the reverse proxy, so that no stranger uses up what there is for all."""

from __future__ import annotations

import json

import pytest

from bridge.cli.doctor import proxies_named
from bridge.config import parse
from tests.policy.hospital import DIRECTORY, NIGHTBELL, documents


@pytest.mark.parametrize(
    ("listen", "well"),
    [
        ({"public_url": "http://127.0.0.1:8470"}, []),
        ({"public_url": "https://bridge.example"}, [False]),
        ({"public_url": "https://bridge.example", "proxies": "127.0.0.1"}, [True]),
        ({"public_url": "https://bridge.example", "proxies": ["10.1.2.0/24", "::1"]}, [True]),
    ],
)
def test_a_proxy_that_nobody_named_is_told_of(listen: dict[str, object], well: list[bool]) -> None:
    files = {name: json.dumps(document) for name, document in documents().items()}
    changed = json.dumps({**NIGHTBELL, "listen": listen})
    found = proxies_named(parse({**files, "nightbell.yaml": changed}, DIRECTORY))
    assert [finding.well for finding in found] == well
    assert not any(finding.serious for finding in found if not finding.well)
