"""A YAML file as plain values, with the place of every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bridge.config.problems import ConfigError, Problem

Path = tuple[str | int, ...]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file, made of dicts, lists, strings and None.

    A scalar is text, and the field that it is for says what it means: `+15550100` never becomes a number, nor
    `no`, the language, a falsehood.
    """

    file: str
    value: Any
    places: dict[Path, Place] = field(repr=False)
    keys: dict[Path, Place] = field(repr=False)

    def at(self, path: Path) -> Place:
        """Line and column of a value, or of the nearest thing around it that stands in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def at_key(self, path: Path) -> Place:
        """Line and column of the key under which a value stands."""
        return self.keys[path] if path in self.keys else self.at(path)

    def problem(self, path: Path, message: str) -> Problem:
        """A mistake in the value at `path`."""
        return Problem(self.file, *self.at(path), message)

    def key_problem(self, path: Path, message: str) -> Problem:
        """A mistake in the key at `path`."""
        return Problem(self.file, *self.at_key(path), message)


def parse_source(file: str, text: str) -> Source:
    """Read YAML 1.2. Raises `ConfigError` for broken syntax, and for every key that stands twice."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = _place(mark) if mark else (1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Problem(file, line, column, f"this is not YAML: {said}")]) from error
    source = Source(file, None, {}, {})
    if root is None:
        return source
    problems: list[Problem] = []
    value = _read(root, (), source, problems)
    if problems:
        raise ConfigError(problems)
    return Source(file, value, source.places, source.keys)


def _read(node: Node, path: Path, source: Source, problems: list[Problem]) -> Any:
    source.places[path] = _place(node.start_mark)
    if isinstance(node, MappingNode):
        return dict(_entries(node, path, source, problems))
    if isinstance(node, SequenceNode):
        return [_read(item, (*path, index), source, problems) for index, item in enumerate(node.value)]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _entries(
    node: MappingNode, path: Path, source: Source, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            problems.append(Problem(source.file, *_place(key_node.start_mark), "a key must be a word"))
            continue
        key = str(key_node.value)
        place = _place(key_node.start_mark)
        here = (*path, key)
        if here in source.keys:
            message = f'"{key}" stands twice; the first is in line {source.keys[here][0]}'
            problems.append(Problem(source.file, *place, message))
        source.keys.setdefault(here, place)
        yield key, _read(value_node, here, source, problems)


def _place(mark: StreamMark) -> Place:
    return mark.line + 1, mark.column + 1
