"""A canary is found wherever and however it hides."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.leak_search import CHUNK_BYTES, in_bytes, in_files, in_sqlite, needles

CANARY = "Kanári+42/é"
packed = partial(gzip.compress, mtime=0)  # the same bytes whenever it is collected
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
        packed(b"before " + CANARY.encode()),
        packed(base64.b64encode(CANARY.encode())),
        packed(CANARY.encode("utf-16-le")),
        base64.b64encode(packed(CANARY.encode())),
        base64.urlsafe_b64encode(packed(json.dumps(CANARY).encode())),
        packed(CANARY.encode()).hex().encode(),
        base64.b64encode(CANARY.encode("utf-16-le")),
        base64.b64encode(json.dumps(CANARY).encode()),
        json.dumps(json.dumps(CANARY)).encode(),
        quote(quote(CANARY, safe=""), safe="").encode(),
        quote(base64.b64encode(CANARY.encode()), safe="").encode(),
        CANARY.encode("utf-16-le").hex().encode(),
        packed(CANARY.encode() * 9)[:-12],
    ],
)
def test_every_usual_encoding_is_seen_through(hidden: bytes) -> None:
    assert in_bytes(b"before " + hidden + b" after", WANTED, "here")


@given(before=st.binary(max_size=10), after=st.binary(max_size=10))
def test_base64_is_seen_through_wherever_it_begins(before: bytes, after: bytes) -> None:
    text = before + CANARY.encode() + after
    assert in_bytes(base64.b64encode(text), WANTED, "here")
    assert in_bytes(base64.urlsafe_b64encode(text), WANTED, "here")


def test_packed_bytes_are_seen_through_although_others_seem_to_be() -> None:
    noise = (b"\x1f\x8b\x08" + b"x" * 50) * 20 + b"1f8b08" * 9 + b"H4sIAAAA"
    assert in_bytes(noise + packed(CANARY.encode()) + noise, WANTED, "here")


@pytest.mark.parametrize("hidden", [f"{'x' * 90_000}{CANARY}", packed(CANARY.encode() * 3_000)])
def test_the_rows_of_sqlite_are_searched_where_a_value_lies_in_pieces(
    tmp_path: Path, hidden: str | bytes
) -> None:
    file = tmp_path / "rows.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute('CREATE TABLE "odd ""name" (a, b)')
        connection.execute('INSERT INTO "odd ""name" VALUES (?, ?)', (1, hidden))
        connection.commit()
    rows, hits = in_sqlite(file, WANTED)
    assert rows == 1
    assert {hit.place for hit in hits} == {f'{file}, table odd "name'}
    assert hits <= in_files(tmp_path, WANTED)[1]


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
