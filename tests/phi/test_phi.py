"""The type of what nobody may see by accident."""

import copy
import dataclasses
import json
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.attachment import Attachment
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, PhiLeakError

SECRET = "Quixana Zobrist, +15550001234"
WAYS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "f-string": lambda value: f"{value}",
    "f-string of the repr": lambda value: f"{value!r}",
    "f-string with a width": lambda value: f"{value:>40}",
    "str.format": "{}".format,
    "percent s": lambda value: "%s" % value,  # noqa: UP031 - it is one of the ways
    "percent r": lambda value: "%r" % value,  # noqa: UP031 - likewise
    "join": ", ".join,
    "add": lambda value: "to " + value,
    "add from the right": lambda value: value + "!",
    "multiply": lambda value: value * 2,
    "list": list,
    "index": lambda value: value[0],
    "length": len,
    "int": int,
    "bytes": bytes,
    "sorted": lambda value: sorted([value, Phi("z")]),
    "json": json.dumps,
    "json with default": lambda value: json.dumps(value, default=str),
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "vars": vars,
    "pprint": pprint.pformat,
    "in a list": lambda value: repr([value]),
    "in a dict": lambda value: str({"value": value}),
    "exception": lambda value: "".join(traceback.format_exception_only(ValueError(value))),
    "console log": lambda value: structlog.dev.ConsoleRenderer()(
        None, "info", {"event": "x", "value": value}
    ),
    "json log": lambda value: structlog.processors.JSONRenderer()(
        None, "info", {"event": "x", "value": value}
    ),
}


def shown(way: Callable[[Any], object], value: object) -> str:
    """What comes out of it, or of its refusal."""
    try:
        return str(way(value))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [Phi(SECRET), Phi(SECRET.encode())], ids=["text", "bytes"])
def test_no_way_of_showing_it_shows_it(way: str, value: Phi[Any]) -> None:
    assert "Quixana" not in shown(WAYS[way], value)
    assert "0001234" not in shown(WAYS[way], value)


@given(st.text(min_size=12))
def test_whatever_it_holds_it_looks_the_same(text: str) -> None:
    assert repr(Phi(text)) == str(Phi(text)) == "‹phi›"


@pytest.mark.parametrize(
    "way", ["f-string", "f-string with a width", "str.format", "pickle", "copy", "deepcopy"]
)
def test_a_mistake_says_what_would_be_right(way: str) -> None:
    with pytest.raises(PhiLeakError, match=r"reveal|seal"):
        WAYS[way](Phi(SECRET))


@given(st.text(), st.text())
def test_it_is_compared_by_what_it_holds(one: str, other: str) -> None:
    assert (Phi(one) == Phi(other)) is (one == other)
    assert Phi(one) != one
    if one == other:
        assert hash(Phi(one)) == hash(Phi(other))
    assert bool(Phi(one)) is bool(one)
    assert Phi(one).reveal() == one


EVENT = IntakeEvent(
    channel=ChannelId("events"),
    key=Phi(SECRET),
    kind=EventKind.TEXT,
    body=Phi(SECRET),
    caller=Phi(SECRET),
    caller_name=Phi(SECRET),
    called=Phi(SECRET),
    recipient=Phi(SECRET),
    queue=Phi(SECRET),
    attributes={"clinic": Phi(SECRET)},
    attachments=(Attachment(f"audio/{SECRET}", Phi(SECRET), Phi(SECRET), Phi(SECRET.encode())),),
)


@pytest.mark.parametrize("way", [*WAYS, "asdict", "astuple"])
def test_an_event_shows_nothing_of_what_is_in_it(way: str) -> None:
    ways = WAYS | {"asdict": dataclasses.asdict, "astuple": dataclasses.astuple}
    assert "Quixana" not in shown(ways[way], EVENT)


def test_every_field_of_an_event_that_somebody_wrote_is_protected() -> None:
    """A new field is either Phi, or one of those that can say nothing of a person."""

    def plain(kind: type[IntakeEvent | Attachment]) -> set[str]:
        return {field.name for field in dataclasses.fields(kind) if "Phi[" not in str(field.type)}

    assert plain(IntakeEvent) == {"channel", "kind", "language", "priority", "occurred_at", "attachments"}
    assert plain(Attachment) == {"type"}


def test_an_event_survives_the_vaults_form_and_its_attachments_each_in_their_own() -> None:
    assert IntakeEvent.from_seal_form(EVENT.seal_form()) == dataclasses.replace(EVENT, attachments=())
    (attachment,) = EVENT.attachments
    assert Attachment.from_seal_form(attachment.seal_form()) == attachment
