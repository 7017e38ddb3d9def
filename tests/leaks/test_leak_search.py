"""A canary is found wherever and however it hides."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.leak_search import CHUNK_BYTES, in_bytes, in_files, needles

CANARY = "Kanári+42/é"
WANTED = needles({"words": CANARY})


@pytest.mark.parametrize(
    "hidden",
    [
        CANARY.encode(),
        CANARY.encode("utf-16-le"),
        CANARY.encode("utf-16-be"),
        json.dumps(CANARY).encode(),
        quote(CANARY, safe="").encode(),
        quote(CANARY, safe="").lower().encode(),
        CANARY.encode().hex().encode(),
        gzip.compress(b"before " + CANARY.encode()),
        gzip.compress(base64.b64encode(CANARY.encode())),
    ],
)
def test_every_usual_encoding_is_seen_through(hidden: bytes) -> None:
    assert in_bytes(b"before " + hidden + b" after", WANTED, "here")


@given(before=st.binary(max_size=10), after=st.binary(max_size=10))
def test_base64_is_seen_through_wherever_it_begins(before: bytes, after: bytes) -> None:
    text = before + CANARY.encode() + after
    assert in_bytes(base64.b64encode(text), WANTED, "here")
    assert in_bytes(base64.urlsafe_b64encode(text), WANTED, "here")


@given(st.binary(max_size=200))
def test_what_holds_none_shows_none(data: bytes) -> None:
    assert in_bytes(data, WANTED, "here") == set()


def test_files_are_searched_across_the_pieces_they_are_read_in(tmp_path: Path) -> None:
    file = tmp_path / "media" / "blob"
    file.parent.mkdir()
    file.write_bytes(b"x" * (CHUNK_BYTES - 3) + CANARY.encode() + b"x" * 100)
    size, hits = in_files(tmp_path, WANTED)
    assert size == file.stat().st_size
    assert {hit.place for hit in hits} == {str(file)}


def test_the_names_of_files_are_searched_too(tmp_path: Path) -> None:
    (tmp_path / f"{needles({'n': 'Kanari7'})[0].data.decode()}.ogg").touch()
    _, hits = in_files(tmp_path, needles({"n": "Kanari7"}))
    assert len(hits) == 1
