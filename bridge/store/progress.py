"""How far an event has come, for the source that asks."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.model.ids import IntakeId
from bridge.model.page import PageState
from bridge.model.progress import Progress
from bridge.store.tables import intake, page

READ = (PageState.READ, PageState.ACCEPTED, PageState.CLOSED)


async def progress_of(connection: AsyncConnection, intake_id: IntakeId) -> Progress | None:
    """The furthest that a page of an event has come; None if there is no such event."""
    known = await connection.execute(select(intake.c.id).where(intake.c.id == intake_id))
    if known.one_or_none() is None:
        return None
    query = select(page.c.state, page.c.delivered_at).where(page.c.intake == intake_id)
    pages = (await connection.execute(query)).all()
    if any(each.state in READ for each in pages):
        return Progress.READ
    if any(each.delivered_at is not None for each in pages):
        return Progress.DELIVERED
    return Progress.QUEUED
