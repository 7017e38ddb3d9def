"""Looking for values in files and databases, as they are and in the encodings in which they might hide."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

CHUNK_BYTES = 4 * 2**20
OVERLAP_BYTES = 4_096
PIECE_BYTES = 2**16
SQLITE = b"SQLite format 3\0"
# How packed bytes begin (RFC 1952), and how that looks in base64 and in hexadecimal digits.
GZIP = re.compile(rb"\x1f\x8b\x08")
GZIP_IN_BASE64 = re.compile(rb"H4sI[A-Za-z0-9+/_-]+")
GZIP_IN_HEXADECIMAL = re.compile(rb"1f8b08[0-9a-f]+", re.IGNORECASE)
STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
UNPACKED_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Needle:
    """A canary in one of its forms."""

    canary: str
    form: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a canary was found, and in which form."""

    place: str
    canary: str
    form: str


def needles(canaries: Mapping[str, str]) -> list[Needle]:
    """Every form of every canary; the same bytes once."""
    found: dict[bytes, Needle] = {}
    for name, value in canaries.items():
        for form, data in _forms(value):
            found.setdefault(data, Needle(name, form, data))
    return list(found.values())


def _forms(value: str) -> Iterator[tuple[str, bytes]]:
    """Each way of writing it, as it is and within one of the ways of carrying bytes in text."""
    for written, data in _written(value):
        yield written or "as it is", data
        for carried, within in _carried(data):
            yield ", in ".join(filter(None, (written, carried))), within


def _written(value: str) -> Iterator[tuple[str, bytes]]:
    plain = value.encode()
    yield "", plain
    yield "UTF-16", value.encode("utf-16-le")
    yield "UTF-16", value.encode("utf-16-be")
    escaped = json.dumps(value)[1:-1]
    yield "JSON escapes", escaped.encode()
    yield "JSON escapes", json.dumps(escaped)[1:-1].encode()
    yield "JSON escapes", "".join(f"\\u{ord(letter):04x}" for letter in value).encode()
    yield "URL", quote(value, safe="").encode()
    yield "URL", quote(value, safe="").lower().encode()
    yield "URL", quote_plus(value).encode()
    yield "URL", quote(quote(value, safe=""), safe="").encode()


def _carried(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "hexadecimal", data.hex().encode()
    yield "hexadecimal", data.hex().upper().encode()
    for shift in range(3):
        # Where it begins within the groups of three bytes is not known; the letters at both ends depend on it.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * shift + data)
            inner = whole[(0, 2, 3)[shift] :].rstrip(b"=")
            yield "base64", inner if (shift + len(data)) % 3 == 0 else inner[:-1]
            yield "base64, in URL", quote(inner[:-1], safe="").encode()


def in_bytes(data: bytes, wanted: Iterable[Needle], place: str) -> set[Hit]:
    """What of it stands in some bytes, or in what is packed in them, itself in base64 or hexadecimal or not."""
    wanted = tuple(wanted)
    found = {Hit(place, needle.canary, needle.form) for needle in wanted if needle.data in data}
    for carried, packed in _packed(data):
        inside = _unpacked(packed)
        within = ", in ".join(filter(None, ("gzip", carried)))
        found |= {Hit(place, n.canary, f"{n.form}, in {within}") for n in wanted if n.data in inside}
    return found


def _packed(data: bytes) -> Iterator[tuple[str, bytes]]:
    for match in GZIP.finditer(data):
        yield "", data[match.start() :]
    for match in GZIP_IN_BASE64.finditer(data):
        text = match.group().translate(STANDARD_ALPHABET)
        yield "base64", base64.b64decode(text[: len(text) // 4 * 4])
    for match in GZIP_IN_HEXADECIMAL.finditer(data):
        text = match.group()
        yield "hexadecimal", bytes.fromhex(text[: len(text) // 2 * 2].decode())


def _unpacked(data: bytes) -> bytes:
    """What is packed; of what is broken or cut off, what comes before that."""
    unpack, found = zlib.decompressobj(wbits=31), b""
    with suppress(zlib.error):
        for start in range(0, len(data), PIECE_BYTES):
            found += unpack.decompress(data[start : start + PIECE_BYTES], UNPACKED_BYTES - len(found))
            if unpack.eof or len(found) >= UNPACKED_BYTES:
                break
    return found


def in_sqlite(file: Path, wanted: Iterable[Needle]) -> tuple[int, set[Hit]]:
    """The rows of an SQLite database and what was found in them: in its file, a long value lies in pieces."""
    wanted, found, rows = tuple(wanted), set[Hit](), 0
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        for (name,) in connection.execute(tables).fetchall():
            table = name.decode()
            quoted = table.replace('"', '""')
            for row in connection.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - the database's own names
                rows += 1
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    found |= in_bytes(data, wanted, f"{file}, table {table}")
    return rows, found


def in_files(root: Path, wanted: Iterable[Needle]) -> tuple[int, set[Hit]]:
    """How many bytes lie in a file or below a directory, and what was found in them and in the files' names."""
    wanted = tuple(wanted)
    found: set[Hit] = set()
    size = 0
    for file in sorted(path for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file()):
        found |= in_bytes(str(file).encode(errors="replace"), wanted, f"{file} (its name)")
        with file.open("rb") as stream:
            before = b""
            if stream.peek(len(SQLITE)).startswith(SQLITE):
                found |= in_sqlite(file, wanted)[1]
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                found |= in_bytes(before + chunk, wanted, str(file))
                before = chunk[-OVERLAP_BYTES:]
    return size, found
