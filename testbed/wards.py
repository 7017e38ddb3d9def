"""A configuration of many wards, so that tests which share a bridge have a room and people of their own."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from testbed.bridge import ROOT

Json = dict[str, Any]


@dataclass(frozen=True)
class Ward:
    """A role with a room and a number; its first person is on call, and the others are asked in order."""

    name: str
    people: tuple[str, ...]
    number: str
    ladder: str = "patient"


# Longer than any test, and as short as a test can tell apart.
LADDERS = {
    "patient": [{"after": "1 h", "notify": "again"}, {"after": "1 h", "notify": "operations"}],
    "brisk": [
        {"after": "1 s", "notify": "again"},
        {"after": "1 s", "notify": "next"},
        {"after": "1 s", "notify": "operations"},
    ],
}


def ward_config(
    directory: Path, wards: Iterable[Ward], *, nightbell: Mapping[str, Any] | None = None
) -> Path:
    """Write a configuration of these wards: the repository's own, with other people, roles and rules.

    What no ward takes goes to the first one. `nightbell` overlays nightbell.yaml.
    """
    wards = tuple(wards)
    documents = own_config()
    documents["nightbell.yaml"] = overlaid(documents["nightbell.yaml"], nightbell or {})
    documents["roles.yaml"] |= {
        "people": {p: _person(p) for ward in wards for p in ward.people},
        "groups": {},
        "roles": {ward.name: _role(ward) for ward in wards},
    }
    documents["routing.yaml"] |= {
        "rules": [
            {"id": ward.name, "when": {"called": ward.number}, "then": {"role": ward.name}} for ward in wards
        ],
        "fallback": {"role": wards[0].name},
        "ladders": {name: {"steps": steps} for name, steps in LADDERS.items()},
        "defaults": documents["routing.yaml"]["defaults"] | {"ladder": "patient"},
    }
    return write_config(directory, documents)


def own_config() -> dict[str, Json]:
    """The repository's configuration, to be changed."""
    return {path.name: YAML(typ="safe").load(path.read_text()) for path in (ROOT / "config").glob("*.yaml")}


def write_config(directory: Path, documents: Mapping[str, Json]) -> Path:
    """Write a configuration as JSON, which is YAML."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, ensure_ascii=False, indent=1, default=str))
    return directory


def overlaid(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """A document in which some values are others."""
    inner = {
        key: overlaid(document.get(key, {}), value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return {**document, **inner}


def _person(name: str) -> Json:
    return {"name": f"Dr. {name.title()}", "matrix": f"@{name}:nightbell.test"}


def _role(ward: Ward) -> Json:
    return {
        "name": ward.name,
        "room": {"name": ward.name},
        "members": list(ward.people),
        "ladder": ward.ladder,
        "schedule": {"layers": [{"people": list(ward.people)}]},
    }
