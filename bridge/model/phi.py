"""Protected health information has a type, so that it cannot slip into a log, a URL or a state event."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar, final

T = TypeVar("T", str, bytes)


class PhiLeakError(TypeError):
    """Code tried to format, serialise or copy out a protected value; reveal it only where it is encrypted."""


@final
class Phi(Generic[T]):
    """A protected value: message content, a caller's name or number, a provider's id of a message.

    It prints as ``‹phi›``, refuses formatting, pickling and JSON, and gives its value only to `reveal`, which
    is called where the value is encrypted, matched by a routing rule, or shown to the person it is meant for.
    (45 CFR 164.502(b), minimum necessary.)
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: T = value

    def reveal(self) -> T:
        """Return the protected value itself."""
        return self._value

    def __repr__(self) -> str:
        return "‹phi›"

    __str__ = __repr__

    def __format__(self, spec: str) -> NoReturn:
        message = "a Phi value can't be formatted: reveal() it where it is encrypted or shown to its reader"
        raise PhiLeakError(message)

    def __reduce__(self) -> NoReturn:
        message = "a Phi value can't be pickled: seal it in the vault"
        raise PhiLeakError(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phi) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((Phi, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


def reveal_optional(value: Phi[str] | None) -> str | None:
    """Reveal a value that may be absent."""
    return None if value is None else value.reveal()


def protect_optional(value: Any) -> Phi[str] | None:
    """Wrap a wire value; absent and empty both become None."""
    return Phi(str(value)) if value not in (None, "") else None
