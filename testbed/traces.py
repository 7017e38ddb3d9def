"""Looking for what should be nowhere: a text in any dress, in files of any kind."""

import hashlib
import json
import re
import sqlite3
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

SQLITE = b"SQLite format 3\x00"
# A number has so few values that its bare hash is the number.
HASHED = ("it is", "digits")
PHONE_NUMBER = re.compile(r"\+[0-9]{8,15}")


def traces(texts: Iterable[str], places: Mapping[str, bytes]) -> list[str]:
    """Where any of these texts stands, and in which dress."""
    found = []
    for text in texts:
        for dress, worn in dresses(text).items():
            found += [
                f"{text!r} as {dress} in {place}" for place, content in places.items() if worn in content
            ]
    return found


def everything_in(directory: Path) -> dict[str, bytes]:
    """Each file below a directory as it lies there, and the values of databases as they are read."""
    places = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            places[str(path)] = content = path.read_bytes()
            if content.startswith(SQLITE):
                places[f"{path}, read"] = b"\n".join(_values(path))
    return places


def dresses(text: str) -> dict[str, bytes]:
    """The forms in which a program may have written a text, by their names; each once."""
    names: dict[bytes, str] = {}
    for spelling, said in _spellings(text).items():
        for encoding, worn in (*_encodings(said), *(_digests(said) if spelling in HASHED else ())):
            if len(worn) >= min(len(text), 8):
                names.setdefault(worn, f"{spelling}, {encoding}")
    return {name: worn for worn, name in names.items()}


def _spellings(text: str) -> dict[str, str]:
    spellings = {
        "it is": text,
        "upper case": text.upper(),
        "lower case": text.lower(),
        "reversed": text[::-1],
    }
    if PHONE_NUMBER.fullmatch(text):
        digits, national = text[1:], text[-10:]
        area, exchange, line = national[:3], national[3:6], national[6:]
        spellings |= {
            "digits": digits,
            "reversed digits": digits[::-1],
            "national number": national,
            "dashed": f"{area}-{exchange}-{line}",
            "spaced": f"{area} {exchange} {line}",
            "bracketed": f"({area}) {exchange}-{line}",
        }
    return spellings


def _encodings(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    yield "raw", raw
    yield "UTF-16", text.encode("utf-16-le")
    yield "UTF-16 of the other end", text.encode("utf-16-be")
    yield "Latin-1", text.encode("latin-1", "ignore")
    yield "URL-encoded", quote(text, safe="").encode()
    yield "URL-encoded in a path", quote(text).encode()
    yield "form-encoded", quote_plus(text).encode()
    yield "HTML", escape(text).encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON in JSON", json.dumps(json.dumps(text)[1:-1])[1:-1].encode()
    yield "repr", repr(text)[1:-1].encode()
    yield "hexadecimal", raw.hex().encode()
    for offset in range(3):
        encoded = _base64_inside(raw, offset)
        yield f"base64 at {offset}", encoded
        yield f"URL-safe base64 at {offset}", encoded.translate(bytes.maketrans(b"+/", b"-_"))


def _digests(text: str) -> Iterator[tuple[str, bytes]]:
    for algorithm in ("md5", "sha1", "sha256"):
        digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
        yield algorithm, digest
        yield f"{algorithm} in hexadecimal", digest.hex().encode()
        yield f"{algorithm} in base64", b64encode(digest).rstrip(b"=")


def _base64_inside(raw: bytes, offset: int) -> bytes:
    """The characters that stand for these bytes wherever they begin in something longer."""
    whole = b64encode(bytes(offset) + raw)
    first = (offset * 8 + 5) // 6
    last = (offset + len(raw)) * 8 // 6
    return whole[first:last]


def _values(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
        )
        for (table,) in tables.fetchall():
            for row in database.execute(f'SELECT * FROM "{table.decode()}"'):  # noqa: S608 - its own table names
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
