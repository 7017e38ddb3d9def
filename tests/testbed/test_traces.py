import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from testbed.traces import everything_in, traces

NAME = "Zoë O’Malley / bed 4"
NUMBER = "+15557654321"
WRITERS: dict[str, Callable[[str], bytes]] = {
    "raw": str.encode,
    "upper": lambda text: text.upper().encode(),
    "url": lambda text: quote(text).encode(),
    "whole url": lambda text: quote(text, safe="").encode(),
    "form": lambda text: quote_plus(text).encode(),
    "json": lambda text: json.dumps({"body": text}).encode(),
    "json without escapes": lambda text: json.dumps([text], ensure_ascii=False).encode(),
    "json twice": lambda text: json.dumps(json.dumps([text])).encode(),
    "repr": lambda text: repr([text]).encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "hex": lambda text: text.encode().hex().encode(),
    "sha-256": lambda text: hashlib.sha256(text.encode()).hexdigest().encode(),
}


@pytest.mark.parametrize("text", [NAME, NUMBER])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_text_is_found_however_it_was_written(tmp_path: Path, writer: str, text: str) -> None:
    (tmp_path / "file").write_bytes(b"before " + WRITERS[writer](text) + b" after")
    assert traces([text], everything_in(tmp_path))


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_text_is_found_inside_base64(before: str, encode: Callable[[bytes], bytes]) -> None:
    assert traces([NAME], {"here": encode(f"{before}{NAME} and after".encode())})


@pytest.mark.parametrize(
    "spelt", ["15557654321", "5557654321", "+1 555-765-4321", "(555) 765-4321", "12345675551", "555 765 4321"]
)
def test_a_number_is_found_however_it_was_spelt(spelt: str) -> None:
    assert traces([NUMBER], {"here": f"from {spelt}.".encode()})


def test_a_text_is_found_in_a_database_and_in_its_log(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "rows.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE page (body TEXT)")
        # Longer than a page of the file, so that it is cut into pieces there.
        database.execute("INSERT INTO page VALUES (?)", ("x" * 4085 + NAME + "y" * 5000,))
        database.commit()
        found = traces([NAME], everything_in(tmp_path))
        assert any("rows.db, read" in trace for trace in found)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"Zoe O'Malley, bed 5, +1 555-765-4320")
    assert traces([NAME, NUMBER], everything_in(tmp_path)) == []
