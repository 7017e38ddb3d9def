"""A mistake in the configuration: where it is, what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from bridge.model.errors import NightbellError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake at a place in a file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(NightbellError):
    """The configuration can't be used. `problems` has every mistake that was found, file by file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them if they are few."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    few = 12
    return f"; known: {', '.join(names)}" if 0 < len(names) <= few else ""
