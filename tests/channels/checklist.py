"""The checklist of docs/contributing/adding-a-channel.md, asked of one channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bridge.channels import CHANNEL_TYPES
from bridge.config.values import Section
from tests.channels.parsers import PARSERS
from tests.channels.wires import CAPTURED, TALKS, WIRES

ROOT = Path(__file__).parents[2]
CAPTURES = Path(__file__).parent / "captures"
DOORS = "docs/doors.md"
COLUMNS = 6  # of its table of channels: name, authentication, replay and key, clock, rate, reconciliation


def unregistered(root: Path = ROOT) -> list[str]:
    """What to do about the channels that have a file, and no line in the registry."""
    return [
        f"Write {constant} of bridge/channels/{file.name} into the list of bridge/channels/__init__.py."
        for file in sorted((root / "bridge" / "channels").glob("*.py"))
        for constant, name in re.findall(r'^(\w+) = ChannelType\(\s*"(\w+)"', file.read_text(), re.MULTILINE)
        if name not in CHANNEL_TYPES
    ]


def lacks(name: str, root: Path = ROOT) -> list[str]:
    """What a channel lacks: for each a sentence that says what to do."""
    return [*_settings(name), *_files(name, root), *_page(name, root), *_row(name, root), *_tests(name)]


def _settings(name: str) -> Iterator[str]:
    settings = CHANNEL_TYPES[name].settings
    if not issubclass(settings, Section) or not settings.__dict__.get("__doc__"):
        yield f"Say in a docstring what {settings.__name__} is; it is a Section (bridge/config/values.py)."
    for field, info in settings.model_fields.items():
        if not info.description:
            yield f"Give the setting {field} of {settings.__name__} a description: Field(description=...)."
    if name in TALKS and "port" in settings.model_fields and "host" not in settings.model_fields:
        yield f"Make {settings.__name__} a ListenerSettings (bridge/channels/tcp.py): peers, per_minute, host, port."


def _files(name: str, root: Path) -> Iterator[str]:
    if not (root / f"bridge/channels/{name}.py").is_file():
        yield f"Put the channel {name} into bridge/channels/{name}.py, where its name leads."
    if not (root / f"tests/channels/test_{name}.py").is_file():
        yield f"Write tests/channels/test_{name}.py: what its source sends, and what becomes of it."


def _page(name: str, root: Path) -> Iterator[str]:
    place = root / f"docs/channels/{name}.md"
    page = place.read_text() if place.is_file() else ""
    for needed, what in (
        (r"## Set it up\n\n1\. ", 'a section "Set it up" of numbered steps'),
        (r"```yaml\n", "an example for nightbell.yaml"),
        (r"## What becomes of [^\n]*\n", 'a table "What becomes of a request": each answer, and the event'),
        (
            r"## Proof that nothing was lost\n",
            '"Proof that nothing was lost": how its source is asked, or why not',
        ),
    ):
        if not re.search(needed, page):
            yield f"Write into docs/channels/{name}.md {what}."
    for field in CHANNEL_TYPES[name].settings.model_fields:
        if f"| `{field}` |" not in page:
            yield f"Write a row for `{field}` into the table of settings of docs/channels/{name}.md."


def _row(name: str, root: Path) -> Iterator[str]:
    row = re.search(rf"^\| \[{name}\]\(channels/{name}\.md\) \|.*$", (root / DOORS).read_text(), re.MULTILINE)
    cells = [cell.strip() for cell in row[0].strip("|").split("|")] if row else []
    if len(cells) != COLUMNS or not all(cells):
        yield (
            f"Write a row [{name}](channels/{name}.md) into the first table of {DOORS}: how it knows its source, what "
            "said again is the same, which clock counts, how often it may come, and whether it can be asked."
        )


def _tests(name: str) -> Iterator[str]:
    if name not in WIRES and name not in TALKS:
        yield (
            f"Write into tests/channels/wires.py how {name}'s source speaks: a Wire for HTTP, a Talk for any other. "
            "Authentication, repetition, bounds, clocks, scripts, withheld numbers and secrecy are then tried on it."
        )
    captured = CAPTURED.get(name, "")
    if not captured.endswith(".") and not (captured and (CAPTURES / captured).exists()):
        yield (
            f"Put traffic of the real source into tests/channels/captures and its name into CAPTURED of "
            f"tests/channels/wires.py for {name}; or a sentence that says why there is none."
        )
    if name not in WIRES and name not in PARSERS:
        yield f"Put what reads the bytes of {name} into PARSERS of tests/channels/parsers.py, where it is fuzzed."
