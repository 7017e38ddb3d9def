"""The words and digits of the event in hand, so that nothing readable is said of it while it is worked on.

What may be said is learnt: the configuration's words and Nightbell's own. Any other word of five letters or more,
and any other number of five digits or more, is the event's own. A number counts by its last seven digits, so
that it is known with and without its country's code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from urllib.parse import unquote_plus

TELLING_DIGITS = 7
LONGEST_TEXT = 100_000  # of an event that is looked at, in bytes or characters: a huge one delays nothing

_WORD = re.compile(r"[^\W_]{5,}")
_NUMBER = re.compile(r"\d(?:[ ().\-]{0,2}\d){4,}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

# Ids of Matrix and of ours, by which a log line is understood.
_ID = re.compile(r"[$!@][^\s]{1,254}|[0-9a-f]{32}")

_may_be_said: set[str] = set()
_in_hand: ContextVar[set[str] | None] = ContextVar("in_hand", default=None)


def learn(text: str) -> None:
    """Take the words of what is no secret: the configuration, and Nightbell's own code."""
    _may_be_said.update(_telling(text))


def telling(texts: Iterable[str]) -> frozenset[str]:
    """The words and numbers in an event's texts that nobody but the event says."""
    found = {token for text in texts for token in _telling(text[:LONGEST_TEXT])}
    return frozenset(found - _may_be_said)


@contextmanager
def hold(*texts: str) -> Iterator[None]:
    """While this lasts, events of these texts are worked on, by this task and by those that it starts."""
    with hold_all([telling(texts)]):
        yield


@contextmanager
def hold_all(several: Iterable[frozenset[str]]) -> Iterator[None]:
    """While this lasts, what others have `held` is worked on here, too."""
    before = _in_hand.set(set(held().union(*several)))
    try:
        yield
    finally:
        _in_hand.reset(before)


def held() -> frozenset[str]:
    """What is in hand."""
    return frozenset(_in_hand.get() or ())


def add(content: bytes) -> None:
    """What was opened is in hand, too, until the `hold` around ends; without one, nothing is."""
    in_hand = _in_hand.get()
    if in_hand is not None:
        in_hand |= telling(text for text in _texts(content) if not _ID.fullmatch(text))


def take(*texts: str) -> None:
    """From now on the event of these texts is in hand, instead of the one before, until the `hold` around ends."""
    _in_hand.set(set(telling(texts)))


def reveals(*texts: str) -> bool:
    """Whether something that is about to be said tells of the event in hand."""
    in_hand = _in_hand.get() or set()
    return bool(in_hand) and any(not in_hand.isdisjoint(_telling(text)) for text in texts)


def is_public(*texts: str) -> bool:
    """Whether nothing is said but in words that may be."""
    return not telling(texts)


def _texts(content: bytes) -> Iterator[str]:
    """The values of a JSON document, or of one in the first line; else a text, as it is and as an URL's."""
    content = content[:LONGEST_TEXT]
    for part in (content, content.partition(b"\n")[0]):
        try:
            yield from _values(json.loads(part))
        except (ValueError, RecursionError):
            continue
        return
    text = content.decode(errors="ignore")
    yield text
    yield unquote_plus(text)


def _values(document: object) -> Iterator[str]:
    left = [document]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif each is not None:
            yield str(each)
        if isinstance(each, str) and each.startswith("{"):
            with suppress(ValueError, RecursionError):
                left.append(json.loads(each))


def _telling(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        if not word.isdigit():
            yield word.casefold()
    for number in _NUMBER.findall(_DATE.sub(" ", text)):
        yield "".join(filter(str.isdigit, number))[-TELLING_DIGITS:]
