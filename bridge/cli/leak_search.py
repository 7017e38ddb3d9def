"""Looking for values in files and databases, as they are and in the encodings in which they might hide."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

CHUNK_BYTES = 4 * 2**20
OVERLAP_BYTES = 4_096
GZIP = b"\x1f\x8b\x08"
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
    plain = value.encode()
    yield "as it is", plain
    yield "UTF-16", value.encode("utf-16-le")
    yield "UTF-16", value.encode("utf-16-be")
    yield "JSON escapes", json.dumps(value)[1:-1].encode()
    yield "JSON escapes", "".join(f"\\u{ord(letter):04x}" for letter in value).encode()
    yield "URL", quote(value, safe="").encode()
    yield "URL", quote(value, safe="").lower().encode()
    yield "hexadecimal", plain.hex().encode()
    yield "hexadecimal", plain.hex().upper().encode()
    for shift in range(3):
        # Where it begins within the groups of three bytes is not known; the letters at both ends depend on it.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * shift + plain)
            inner = whole[(0, 2, 3)[shift] :].rstrip(b"=")
            yield "base64", inner if (shift + len(plain)) % 3 == 0 else inner[:-1]


def in_bytes(data: bytes, wanted: Iterable[Needle], place: str) -> set[Hit]:
    """What of it stands in some bytes, or in what is packed in them."""
    wanted = tuple(wanted)
    found = {Hit(place, needle.canary, needle.form) for needle in wanted if needle.data in data}
    start = data.find(GZIP)
    while start >= 0:
        inside = _unpacked(data[start:])
        found |= {Hit(place, n.canary, f"{n.form}, in gzip") for n in wanted if n.data in inside}
        start = data.find(GZIP, start + 1)
    return found


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, UNPACKED_BYTES)
    except zlib.error:
        return b""


def in_files(root: Path, wanted: Iterable[Needle]) -> tuple[int, set[Hit]]:
    """How many bytes lie in a file or below a directory, and what was found in them and in the files' names."""
    wanted = tuple(wanted)
    found: set[Hit] = set()
    size = 0
    for file in sorted(path for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file()):
        found |= in_bytes(str(file).encode(errors="replace"), wanted, f"{file} (its name)")
        with file.open("rb") as stream:
            before = b""
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                found |= in_bytes(before + chunk, wanted, str(file))
                before = chunk[-OVERLAP_BYTES:]
    return size, found
