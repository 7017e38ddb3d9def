"""What the sources of events are told, each as a row before it is: how far a page has come, and answers to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.event import IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.model.progress import Progress
from bridge.model.report import Answered, Report, ReportKind, Standing, Waiting
from bridge.store.database import upsert
from bridge.store.keys import WRAPPED, KeyRing
from bridge.store.tables import data_key, day_key, event_of_page, intake, page, report
from bridge.vault import Key, VaultError

OPEN = ("todo", "held")  # the source knows nothing of it yet; `held` waits to be fetched
HAVE_READ = [state.value for state in (PageState.READ, PageState.ACCEPTED, PageState.CLOSED)]


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is to be told now."""

    report: Report
    channel: ChannelId
    attempts: int


@dataclass(frozen=True, slots=True)
class Held:
    """A report that waits to be fetched, without its content. `number` is what its poller knows it by."""

    number: int
    id: str
    kind: ReportKind
    intake: IntakeId
    channel: ChannelId
    poller: str
    attempts: int
    at: datetime


async def note_answer(
    connection: AsyncConnection,
    intake_id: IntakeId,
    channel: ChannelId,
    answered: Answered,
    key: Key,
) -> None:
    """Keep a clinician's answer, under the key of the event that it answers."""
    row = _row(intake_id, channel, ReportKind.ANSWER, answered.at)
    values = {
        **row,
        "nth": await _count(connection, intake_id),
        "choice": answered.choice,
        "sealed": key.seal(Phi(answered.text.reveal().encode()), f"report {row['id']}"),
    }
    await connection.execute(insert(report).values(values))


async def untold(
    connection: AsyncConnection, channels: Sequence[ChannelId], since: datetime
) -> list[tuple[IntakeId, ChannelId, ReportKind]]:
    """The steps that pages of these channels have come, and of which there is no report yet."""
    reached = {
        ReportKind.QUEUED: exists().where(event_of_page),
        ReportKind.DELIVERED: exists().where(event_of_page, page.c.delivered_at.is_not(None)),
        ReportKind.READ: exists().where(event_of_page, page.c.state.in_(HAVE_READ)),
    }
    found = []
    for kind, condition in reached.items():
        query = select(intake.c.id, intake.c.channel).where(
            intake.c.channel.in_(channels),
            intake.c.state == "done",
            intake.c.unreadable.is_(None),
            intake.c.received_at >= since,
            condition,
            ~exists().where(report.c.intake == intake.c.id, report.c.kind == kind.value),
        )
        rows = (await connection.execute(query)).all()
        found += [(IntakeId(row.id), ChannelId(row.channel), kind) for row in rows]
    return found


async def note(
    connection: AsyncConnection, reached: Sequence[tuple[IntakeId, ChannelId, ReportKind]], now: datetime
) -> None:
    """Keep what is to be told."""
    rows = [_row(intake_id, channel, kind, now) for intake_id, channel, kind in reached]
    await connection.execute(insert(report), rows)


async def due(
    connection: AsyncConnection, keys: KeyRing, channels: Sequence[ChannelId], now: datetime, limit: int
) -> list[Due]:
    """What is to be told now; of each event the first alone, so that they come in their order."""
    earlier = report.alias()
    first = ~exists().where(
        earlier.c.intake == report.c.intake,
        earlier.c.state == "todo",
        or_(earlier.c.at < report.c.at, (earlier.c.at == report.c.at) & (earlier.c.seq < report.c.seq)),
    )
    mine = (report.c.channel.in_(channels), report.c.state == "todo", report.c.not_before <= now, first)
    found = await _opened(connection, keys, mine, (report.c.not_before, report.c.seq), limit)
    return [Due(told, ChannelId(row.channel), row.attempts) for row, told in found]


async def settle(connection: AsyncConnection, name: str, state: str, error: str | None = None) -> bool:
    """The source was told (`done`), does not want to know (`unwanted`), or can't be told (`failed`)."""
    values = {"state": state, "error": error}
    statement = update(report).where(report.c.id == name, report.c.state.in_(OPEN)).values(values)
    return bool((await connection.execute(statement)).rowcount)


async def hold(connection: AsyncConnection, name: str, poller: str) -> None:
    """Keep it until its poller fetches it."""
    statement = update(report).where(report.c.id == name, report.c.state == "todo")
    await connection.execute(statement.values(state="held", poller=poller))


async def release(connection: AsyncConnection, channels: Sequence[ChannelId]) -> None:
    """Hold nothing any more: whoever fetched may be told by push from now on, or the other way round."""
    mine = update(report).where(report.c.channel.in_(channels), report.c.state == "held")
    await connection.execute(mine.values(state="todo", poller=None))


async def waiting(
    connection: AsyncConnection, keys: KeyRing, channel: ChannelId, poller: str, *, now: datetime, limit: int
) -> list[Waiting]:
    """What a poller is to be given now, in its order; nothing of an event of which something is to come before."""
    earlier = report.alias()
    kept_back = exists().where(
        earlier.c.intake == report.c.intake,
        earlier.c.state == "held",
        earlier.c.seq < report.c.seq,
        earlier.c.not_before > now,
    )
    mine = (*_of(channel, poller), report.c.not_before <= now, ~kept_back)
    found = await _opened(connection, keys, mine, (report.c.seq,), limit)
    return [Waiting(row.seq, told) for row, told in found]


async def held(
    connection: AsyncConnection, channel: ChannelId, poller: str, numbers: Collection[int]
) -> list[Held]:
    """Those of a poller that have these numbers, and that it has not settled yet."""
    return await _held(connection, *_of(channel, poller), report.c.seq.in_(list(numbers)))


async def unfetched(
    connection: AsyncConnection, channels: Sequence[ChannelId], before: datetime, limit: int
) -> list[Held]:
    """What has waited to be fetched since before a moment, the oldest first."""
    conditions = (report.c.channel.in_(channels), report.c.state == "held", report.c.at < before)
    return await _held(connection, *conditions, limit=limit)


def _of(channel: ChannelId, poller: str) -> tuple[ColumnElement[bool], ...]:
    return (report.c.channel == channel, report.c.poller == poller, report.c.state == "held")


async def _held(
    connection: AsyncConnection, *conditions: ColumnElement[bool], limit: int | None = None
) -> list[Held]:
    query = select(report).where(*conditions).order_by(report.c.seq).limit(limit)
    rows = (await connection.execute(query)).all()
    return [
        Held(
            row.seq,
            row.id,
            ReportKind(row.kind),
            IntakeId(row.intake),
            ChannelId(row.channel),
            row.poller,
            row.attempts,
            row.at,
        )
        for row in rows
    ]


async def _opened(
    connection: AsyncConnection,
    keys: KeyRing,
    conditions: Sequence[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]],
    limit: int,
) -> list[tuple[Row[Any], Report]]:
    """The rows of reports for which the conditions are true, with what they tell."""
    query = (
        select(
            report,
            intake.c.sealed.label("event"),
            intake.c.data_key,
            *WRAPPED,
        )
        .join(intake, intake.c.id == report.c.intake)
        .join(data_key, data_key.c.id == intake.c.data_key)
        .join(day_key, day_key.c.id == data_key.c.day_key)
        .where(*conditions)
        .order_by(*order)
        .limit(limit)
    )
    found = []
    for row in (await connection.execute(query)).all():
        with suppress(VaultError):  # a row that was changed must not keep others back
            key = keys.key_of_row(row)
            event = IntakeEvent.from_seal_form(key.open(row.event, f"intake {row.intake}"))
            told = Report(
                row.id, ReportKind(row.kind), event, IntakeId(row.intake), row.at, _answer(row, key)
            )
            found.append((row, told))
    return found


async def postpone(connection: AsyncConnection, name: str, until: datetime, error: str) -> None:
    """Tell it again later."""
    values = {"attempts": report.c.attempts + 1, "not_before": until, "error": error}
    await connection.execute(update(report).where(report.c.id == name).values(values))


async def drop(connection: AsyncConnection, channel: ChannelId, intake_id: IntakeId, now: datetime) -> None:
    """The source asks for no more of an event, and gets no more."""
    dropped = {**_row(intake_id, channel, ReportKind.DROPPED, now), "state": "done"}
    statement = upsert(connection, report).on_conflict_do_nothing(index_elements=["intake", "kind", "nth"])
    await connection.execute(statement.values(dropped))


async def standing_of(
    connection: AsyncConnection, keys: KeyRing, channel: ChannelId, intake_id: IntakeId
) -> Standing | None:
    """The furthest that a page of an event has come, and the answers; None if the channel has no such event."""
    query = (
        select(
            intake.c.received_at,
            intake.c.sealed,
            intake.c.data_key,
            *WRAPPED,
        )
        .outerjoin(data_key, data_key.c.id == intake.c.data_key)
        .outerjoin(day_key, day_key.c.id == data_key.c.day_key)
        .where(intake.c.id == intake_id, intake.c.channel == channel)
    )
    found = (await connection.execute(query)).one_or_none()
    reports = await connection.execute(
        select(report).where(report.c.intake == intake_id).order_by(report.c.nth)
    )
    rows = reports.all()
    if found is None or any(row.kind == ReportKind.DROPPED for row in rows):
        return None
    progress, at = await _progress(connection, intake_id, found.received_at)
    answers: list[Answered] = []
    event = None
    if found.wrapped is not None:
        with suppress(VaultError):
            key = keys.key_of_row(found)
            event = IntakeEvent.from_seal_form(key.open(found.sealed, f"intake {intake_id}"))
            answers = [answer for row in rows if (answer := _answer(row, key)) is not None]
    return Standing(progress, at, tuple(answers), event)


async def _progress(
    connection: AsyncConnection, intake_id: IntakeId, received_at: datetime
) -> tuple[Progress, datetime]:
    query = (
        select(page.c.state, page.c.delivered_at, page.c.accepted_at)
        .join(intake, event_of_page)
        .where(intake.c.id == intake_id)
    )
    pages = (await connection.execute(query)).all()
    delivered = [each.delivered_at for each in pages if each.delivered_at is not None]
    read = [each for each in pages if each.state in HAVE_READ]
    if read:
        moments = [each.accepted_at for each in read if each.accepted_at is not None]
        return Progress.READ, min(moments or delivered or [received_at])
    return (Progress.DELIVERED, min(delivered)) if delivered else (Progress.QUEUED, received_at)


async def destroy(connection: AsyncConnection, events: Sequence[str]) -> None:
    """The words of answers go with their events; what was not told yet can't be any more."""
    mine = report.c.intake.in_(events)
    await connection.execute(update(report).where(mine).values(sealed=None))
    late = update(report).where(mine, report.c.state.in_(OPEN))
    await connection.execute(late.values(state="failed", error="its content was destroyed"))


def _row(intake_id: IntakeId, channel: ChannelId, kind: ReportKind, now: datetime) -> dict[str, Any]:
    return {
        "id": uuid4().hex,
        "intake": intake_id,
        "channel": channel,
        "kind": kind.value,
        "nth": 0,
        "state": "todo",
        "attempts": 0,
        "at": now,
        "not_before": now,
    }


async def _count(connection: AsyncConnection, intake_id: IntakeId) -> int:
    query = (
        select(func.count())
        .select_from(report)
        .where(report.c.intake == intake_id, report.c.kind == ReportKind.ANSWER.value)
    )
    return int((await connection.execute(query)).scalar_one())


def _answer(row: Row[Any], key: Key) -> Answered | None:
    if row.sealed is None:
        return None
    return Answered(Phi(key.open(row.sealed, f"report {row.id}").reveal().decode()), row.choice, row.at)
