"""Asterisk's call detail records: what became of calls that its manager interface could not tell of.

https://docs.asterisk.org/Configuration/Reporting/Call-Detail-Records-CDR/ (the file of `cdr_csv`; with `newcdrcolumns`
it has the Linkedid, too); in a table: `bridge.channels.cdr_table`.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from bridge.channels.calls import Fate, Voicemail
from bridge.channels.cdr_table import RecordsTable, Row
from bridge.config.values import LocalPath, SecretRef, Section
from bridge.model.errors import SourceError

LONGEST_CALL = timedelta(hours=4)  # a record is written at the end of a call, and named by its begin
READ_AT_FIRST = 1024 * 1024  # bytes from the end of the file; doubled until they reach back far enough
READ_AT_MOST = 256 * 1024 * 1024

_COLUMNS = (
    *("accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata"),
    *("start", "answer", "end", "duration", "billsec", "disposition", "amaflags", "uniqueid", "userfield"),
    *("peeraccount", "linkedid", "sequence"),
)
_AT_LEAST = _COLUMNS.index("uniqueid") + 1


class CdrSettings(Section):
    """Where Asterisk writes its call detail records: a file, or a table."""

    file: LocalPath | None = Field(default=None, description="The file of cdr_csv, mostly Master.csv.")
    database: SecretRef | None = Field(
        default=None,
        description="The address of a database with a table of them: postgresql://..., mysql://... or sqlite:///...",
    )
    tls: bool = Field(
        default=False,
        description="Whether the connection to that database is encrypted, and its name checked.",
    )
    certificate: LocalPath | None = Field(
        default=None, description="The certificate to trust (PEM) with tls, if no authority has signed it."
    )
    table: str = Field(default="cdr", description="The table's name.")
    contexts: tuple[str, ...] = Field(
        default=(), description="The contexts (dcontext) of records that count; all, if left out."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.file is None) == (self.database is None):
            raise ValueError("give either file or database")
        if self.certificate is not None and not self.tls:
            raise ValueError("certificate is for tls: true")
        return self


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call that nobody took, as its records have it."""

    linkedid: str
    began: datetime
    fate: Fate
    voicemail: Voicemail | None
    caller: str = field(repr=False)
    caller_name: str = field(repr=False)
    called: str = field(repr=False)
    queue: str = field(repr=False)
    mailbox: str = field(repr=False)
    channel: str = field(repr=False)  # that came to the mailbox


Records = Callable[[datetime, datetime], Awaitable[list[RecordedCall]]]


def open_records(settings: CdrSettings) -> Records:
    """What gives the calls that nobody took, and that ended between two moments; it raises `SourceError`.

    Raises `SecretUnreadableError`.
    """
    table = None
    if settings.database is not None:
        address = settings.database.read_text()
        table = RecordsTable(address, settings.table, settings.tls, settings.certificate)

    async def recorded_calls(since: datetime, until: datetime) -> list[RecordedCall]:
        if table is not None:
            # A day more: in whatever zone the records are written, this is early enough.
            rows = await table.rows(since - LONGEST_CALL - timedelta(days=1))
        else:
            assert settings.file is not None  # noqa: S101 - one of them is given
            rows = await asyncio.to_thread(_rows_of_file, settings.file, since)
        return calls_of(rows, since, until, settings.contexts)

    return recorded_calls


def calls_of(
    rows: Iterable[Row], since: datetime, until: datetime, contexts: Sequence[str] = ()
) -> list[RecordedCall]:
    """What became of each call. Without a Linkedid only the callers' own channels count, by their Uniqueid."""
    calls: dict[str, list[Row]] = {}
    for row in rows:
        linkedid = row.get("linkedid") or row["uniqueid"]
        own = row["uniqueid"] == linkedid and (row.get("linkedid") or not row["channel"].startswith("Local/"))
        if own or row.get("linkedid"):
            calls.setdefault(linkedid, []).append(row)
    found = []
    for linkedid, of_call in calls.items():
        began = began_at(linkedid)
        counts = not contexts or any(row["dcontext"] in contexts for row in of_call)
        if began is None or not counts:
            continue
        legs = _legs(linkedid, began, of_call)
        if since <= max(leg.ended for leg in legs) <= until and (call := _call(linkedid, began, legs)):
            found.append(call)
    return found


@dataclass(frozen=True, slots=True)
class _Leg:
    """A record of a call, and when what it tells of was over."""

    row: Row
    ended: datetime

    @property
    def app(self) -> str:
        return self.row["lastapp"].lower()

    @property
    def is_taken(self) -> bool:
        return self.row["disposition"] == "ANSWERED"


def _legs(linkedid: str, began: datetime, rows: Sequence[Row]) -> list[_Leg]:
    """A call's records in their order. Their own times are in an unknown zone: how far apart they are is known."""
    starts = [_start(row) for row in rows]
    own = [start for row, start in zip(rows, starts, strict=True) if start and row["uniqueid"] == linkedid]
    first = min(own or filter(None, starts), default=None)
    legs = []
    for row, start in zip(rows, starts, strict=True):
        at = (
            began + max(start - first, timedelta()) if start and first else began_at(row["uniqueid"]) or began
        )
        legs.append((at, _Leg(row, at + _duration(row))))
    return [leg for _, leg in sorted(legs, key=lambda each: each[0])]


def _call(linkedid: str, began: datetime, legs: Sequence[_Leg]) -> RecordedCall | None:
    """What the records of one call say; None if somebody took it, or nobody was asked for."""
    callers = [leg for leg in legs if leg.row["uniqueid"] == linkedid] or legs
    tried = [leg for leg in callers if leg.app in ("queue", "dial")]
    spoke = [leg.row for leg in legs if leg.app == "voicemail"]
    # Of several who were rung at once, one who took the call has it.
    last = max(tried, key=lambda leg: (leg.ended, leg.is_taken), default=None)
    if not spoke and (last is None or last.is_taken):
        return None
    queues = [leg.row for leg in tried if leg.app == "queue"]
    first = callers[0].row
    return RecordedCall(
        linkedid,
        began,
        Fate.ABANDONED if last is not None and last.app == "queue" else Fate.UNANSWERED,
        # Whether there is a message in the box the records don't say.
        Voicemail.LEFT if spoke else None,
        caller=first["src"],
        caller_name=_name(first["clid"]),
        called=first.get("did") or first["dst"],
        queue=_argument(queues[-1]) if queues else "",
        mailbox=_mailbox(spoke[-1]) if spoke else "",
        channel=spoke[-1]["channel"] if spoke else "",
    )


def _mailbox(row: Row) -> str:
    """The first that VoiceMail() was given; without a context it is one of the context `default`."""
    box = _argument(row).partition("&")[0]
    return box if "@" in box or not box else f"{box}@default"


def _argument(row: Row) -> str:
    return row["lastdata"].partition(",")[0]


def _name(clid: str) -> str:
    match = re.fullmatch(r'"(.*)" <.*>', clid, re.DOTALL)
    return match[1] if match else ""


def began_at(uniqueid: str) -> datetime | None:
    """A Uniqueid holds the second in which its channel began, after the system's name, in whatever zone records are."""
    match = re.fullmatch(r"(?:.*-)?([0-9]{9,11})\.[0-9]+", uniqueid, re.DOTALL)
    return datetime.fromtimestamp(int(match[1]), UTC) if match else None


def _start(row: Row) -> datetime | None:
    try:
        return datetime.fromisoformat(row.get("start", "")).replace(tzinfo=None)
    except ValueError:
        return None


def _duration(row: Row) -> timedelta:
    seconds = re.fullmatch(r"([0-9]{1,6})(\.[0-9]*)?", row["duration"])
    return timedelta(seconds=int(seconds[1]) if seconds else 0)


def _rows_of_file(path: Path, since: datetime) -> list[Row]:
    """The records since then, and some before; also those in the file that was rotated last."""
    try:
        rows, reaches_back = _tail(path, since)
        rotated = path.with_name(f"{path.name}.1")
        if not reaches_back and rotated.exists():
            rows = _tail(rotated, since)[0] + rows
    except OSError as error:
        raise SourceError(f"the call records can't be read from {path}: {error.strerror}") from None
    return rows


def _tail(path: Path, since: datetime) -> tuple[list[Row], bool]:
    """The end of a file, and whether it begins before that moment."""
    size = READ_AT_FIRST
    with path.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        while True:
            file.seek(max(0, length - size))
            data = file.read(size)
            whole = size >= length
            rows = _parsed(data if whole else data.partition(b"\n")[2])
            reaches_back = bool(rows) and (began_at(rows[0]["uniqueid"]) or since) < since - 2 * LONGEST_CALL
            if whole or reaches_back:
                return rows, reaches_back
            if size >= READ_AT_MOST:
                raise SourceError(f"the call records in {path} are too many: rotate the file")
            size *= 2


def _parsed(data: bytes) -> list[Row]:
    """The whole records; the last line may be half written."""
    text = data[: data.rfind(b"\n") + 1].decode(errors="replace")
    return [
        dict(zip(_COLUMNS, record, strict=False))
        for line in text.split("\n")
        for record in _fields(line)
        if len(record) >= _AT_LEAST
    ]


def _fields(line: str) -> list[list[str]]:
    try:
        return list(csv.reader([line]))
    except csv.Error:  # a field of more than 128 KiB: nothing that Asterisk writes
        return []
