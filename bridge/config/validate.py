"""From plain values to models, and from pydantic's complaints to places in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as DirectoryPath
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.config.problems import ConfigError, Problem, did_you_mean
from bridge.config.source import Path, Source

M = TypeVar("M", bound=BaseModel)

_SHAPES = {
    "model_type": "should be a block of keys and values",
    "dict_type": "should be a block of keys and values",
    "tuple_type": "should be a list",
    "too_short": "should have at least one",
    "string_type": "should be text",
}


@dataclass(frozen=True, slots=True)
class ChannelSection:
    """A channel's part of nightbell.yaml, as written, for the channel to read with its own model."""

    type: str
    source: Source
    path: Path
    directory: DirectoryPath

    def problem(self, *path: str | int, message: str) -> Problem:
        """A mistake in this section, for a check that a model can't make."""
        return self.source.problem((*self.path, *path), message)


def validate_section(section: ChannelSection, model: type[M]) -> M:
    """Read a channel's section with the channel's model, which has no field `type`. Raises `ConfigError`."""
    value = {key: item for key, item in _value_at(section.source, section.path).items() if key != "type"}
    return validate(section.source, section.path, value, model, section.directory)


def validate(source: Source, path: Path, value: Any, model: type[M], directory: DirectoryPath) -> M:
    """Read the value at `path` of a file with a model. Raises `ConfigError` with every mistake in it."""
    try:
        return model.model_validate(value, context={"directory": directory})
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise ConfigError(
            _problem(source, path, model, detail) for detail in details if not _is_echo(detail, details)
        ) from None


def _is_echo(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is only called too short because its items have mistakes of their own."""
    loc = detail["loc"]
    inside = (other["loc"] for other in details if len(other["loc"]) > len(loc))
    return detail["type"] == "too_short" and any(other[: len(loc)] == loc for other in inside)


def _problem(source: Source, base: Path, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    path = (*base, *_written(_value_at(source, base), detail["loc"]))
    name = str(detail["loc"][-1]) if detail["loc"] else source.file
    if detail["type"] == "missing":
        return source.key_problem(path, f'"{name}" is missing')
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, detail["loc"][:-1])
        return source.key_problem(path, f'unknown key "{name}"{did_you_mean(name, known)}')
    said = _SHAPES.get(detail["type"]) or detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return source.problem(path, f"{_label(path)} {said[:1].lower()}{said[1:]}")


def _label(path: Path) -> str:
    names = [str(part) for part in path if isinstance(part, str)]
    return f'"{names[-1]}"' if names else "the file"


def _written(value: Any, loc: Iterable[str | int]) -> Path:
    """The part of pydantic's path that stands in the file.

    It is without the names of a union's branches, and without an index where one value stands for a list.
    """
    path: list[str | int] = []
    parts = list(loc)
    for index, part in enumerate(parts):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            if not isinstance(value, Mapping) or index < len(parts) - 1:
                continue
        path.append(part)
    return tuple(path)


def _value_at(source: Source, path: Path) -> Any:
    value = source.value
    for part in path:
        value = value[part]
    return value


def _known_keys(model: type[BaseModel], loc: Iterable[str | int]) -> set[str]:
    """The keys that may stand where an unknown one was found."""
    models = {model}
    for part in loc:
        fields = {name: field for each in models for name, field in _fields(each).items()}
        if part in fields:
            models = set(_models(fields[str(part)]))
    return {name for each in models for name in _fields(each)}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """The models inside an annotation such as `tuple[Rule, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
