"""What the homeserver stored, read from its own database as whoever steals the disk would."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPOKEN = """
    SELECT stream_ordering, event_id, room_id, sender, type, json
    FROM events JOIN event_json USING (event_id, room_id)
    WHERE stream_ordering > ? AND type IN ('m.room.encrypted', 'm.room.message', 'm.reaction')
    ORDER BY stream_ordering
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as Synapse keeps it."""

    position: int
    event_id: str
    room_id: str
    sender: str
    type: str
    content: Mapping[str, Any]

    @property
    def ciphertext(self) -> str:
        return str(self.content.get("ciphertext", ""))

    @property
    def relation(self) -> Mapping[str, Any]:
        """How it belongs to another event: always in plain text, so that the homeserver can count it."""
        relation: Mapping[str, Any] = self.content.get("m.relates_to", {})
        return relation


def newest(database: Path) -> int:
    """The position of the latest event."""
    with closing(_open(database)) as connection:
        found: int = connection.execute("SELECT coalesce(max(stream_ordering), 0) FROM events").fetchone()[0]
        return found


def stored_after(database: Path, position: int) -> list[Stored]:
    """What was said and tapped in any room after a position."""
    with closing(_open(database)) as connection:
        rows = connection.execute(SPOKEN, (position,)).fetchall()
    return [
        Stored(at, event, room, sender, kind, json.loads(document)["content"])
        for at, event, room, sender, kind, document in rows
    ]


@dataclass(frozen=True, slots=True)
class Search:
    """How often words stand in files of so many bytes."""

    found: int
    searched: int


def search(directory: Path, words: str) -> Search:
    """Look for words in every file of the homeserver: database, write-ahead log, logs, media."""
    found = searched = 0
    for file in directory.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found += content.count(words.encode())
            searched += len(content)
    return Search(found, searched)


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
