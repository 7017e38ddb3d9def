from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from bridge.config.nightbell import NightbellConfig
from bridge.config.retention import RetentionConfig
from bridge.config.roster import Roster
from bridge.config.routing import PLACEHOLDERS, RoutingConfig

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text() for name in ("configuration.md", "schedules.md"))


def keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """Every key that a model and the models in it have."""
    seen.add(model)
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in models(field.annotation):
            if inner not in seen:
                yield from keys(inner, seen)


def models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models(argument)


@pytest.mark.parametrize("model", [NightbellConfig, Roster, RoutingConfig, RetentionConfig])
def test_every_key_of_the_files_is_documented(model: type[BaseModel]) -> None:
    words = set(
        TEXT.replace("`", " ").replace(".", " ").replace("{", " ").replace(",", " ").replace(":", " ").split()
    )
    assert set(keys(model, set())) - words == set()


def test_every_placeholder_of_a_template_is_documented() -> None:
    assert [name for name in sorted(PLACEHOLDERS) if f"`{{{name}}}`" not in TEXT] == []
