"""Requests of `nightbell reload`: a command asks in a row, and the running bridge answers in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.store.tables import reload_request


async def ask(connection: AsyncConnection, now: datetime) -> int:
    """Somebody wants the configuration loaded anew; gives the request's number."""
    statement = insert(reload_request).values(asked_at=now).returning(reload_request.c.id)
    return int((await connection.execute(statement)).scalar_one())


async def waiting(connection: AsyncConnection) -> list[int]:
    """The requests that have no answer."""
    query = select(reload_request.c.id).where(reload_request.c.answer.is_(None))
    return [int(number) for number in (await connection.execute(query)).scalars()]


async def answer(connection: AsyncConnection, numbers: Sequence[int], text: str) -> None:
    """What came of them."""
    await connection.execute(
        update(reload_request).where(reload_request.c.id.in_(numbers)).values(answer=text)
    )


async def answer_to(connection: AsyncConnection, number: int) -> str | None:
    """What came of a request; None as long as nothing did."""
    query = select(reload_request.c.answer).where(reload_request.c.id == number)
    text: str | None = (await connection.execute(query)).scalar_one_or_none()
    return text
