"""The published schema of an event, and what it promises to those who write a sender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from bridge.channels.webhook import Event, event_schema

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = json.loads((DOCS / "schemas" / "intake-event.schema.json").read_text())

validator = Draft202012Validator(PUBLISHED)
words = st.text(st.characters(codec="utf-8"), max_size=300)
values = st.none() | st.booleans() | st.integers(-9, 9) | words | st.lists(words, max_size=2)
fields = (*Event.model_fields, "unlisted")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert event_schema() == PUBLISHED, "write it anew: see docs/contributing/adding-a-channel.md"


def test_the_published_schema_is_valid() -> None:
    Draft202012Validator.check_schema(PUBLISHED)


@pytest.mark.parametrize("example", PUBLISHED["examples"], ids=lambda example: example["kind"])
def test_the_examples_fit_the_schema_and_the_code(example: dict[str, Any]) -> None:
    validator.validate(example)
    Event.model_validate_json(json.dumps(example))


def test_every_field_is_described() -> None:
    for name, field in PUBLISHED["properties"].items():
        target = PUBLISHED["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        assert target.get("description"), name


@given(
    st.dictionaries(st.sampled_from(fields), values)
    | st.fixed_dictionaries({"kind": st.just("text"), "body": words, "queue": values, "attributes": values})
    | st.fixed_dictionaries(
        {"kind": st.just("page"), "body": words, "caller": st.dictionaries(words, values)}
    )
)
def test_whatever_fits_the_schema_fits_the_code(event: dict[str, Any]) -> None:
    if validator.is_valid(event) and "occurred_at" not in event:
        Event.model_validate_json(json.dumps(event))
