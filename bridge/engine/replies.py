"""What a caller is told in answer to their text: the fixed words of the rule that takes it.

It is found out after the event is durable, and kept before it is given: a source that asks again, because it never
had the answer, gets the very same. Where a source passes no answer on, it is kept as owed (`bridge.engine.texting`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.config.routing import LONGEST_REPEAT
from bridge.engine.desk import Desk
from bridge.ledger import Action, Record
from bridge.model.event import IntakeEvent
from bridge.model.ids import IntakeId
from bridge.model.phi import Phi
from bridge.policy.consent import consent
from bridge.policy.routing import route
from bridge.store import ledger, replies
from bridge.store.inbox import CALLER

# Two machines that answer each other must come to an end.
NOT_AGAIN = timedelta(minutes=10)
OPT_OUT = "opt-out"  # the vault's kind of fingerprint of a number that wants no texts

log = structlog.get_logger(__name__)


class Replies:
    """Asked by the channels whose sources send on what they are answered."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, event: IntakeEvent, intake: IntakeId) -> str | None:
        """The words for the sender of an accepted event, or None. Whatever goes wrong, the event stays accepted."""
        return await self._said(event, intake, owed=False)

    async def owe(self, event: IntakeEvent, intake: IntakeId) -> None:
        """The same, to be sent to them instead of given back."""
        if await self._said(event, intake, owed=True):
            self._desk.bells.texting.ring()

    async def _said(self, event: IntakeEvent, intake: IntakeId, *, owed: bool) -> str | None:
        try:
            said = await self._reply(event, event.caller, intake, owed=owed) if event.caller else None
        except Exception as error:  # noqa: BLE001 - the page goes on; health tells that callers hear nothing
            log.warning("reply_failed", intake=intake, error=type(error).__name__)
            self._desk.pulse.beat("replies", error)
            return None
        return said

    async def _reply(
        self, event: IntakeEvent, caller: Phi[str], intake: IntakeId, *, owed: bool
    ) -> str | None:
        number = self._desk.keys.lookup(f"{OPT_OUT} {event.channel}", caller)
        wish = consent(event.body.reveal())
        if wish is not None:
            async with self._desk.database.write() as connection:
                await replies.note_consent(connection, number, self._desk.now(), given=wish)
        if wish is False or not self._desk.rulebook().replies:
            return None
        async with self._desk.database.read() as connection:
            received, kept = await replies.given(connection, intake)
            if kept is not None:
                return kept or None
            decided = await self._decided(connection, event, caller, received)
            text, outcome = decided or "", "told"
            if decided and not await replies.consents(connection, number):
                text, outcome = "", "opted_out"
            elif decided and await self._has_just_had(connection, event, caller, decided, received):
                text, outcome = "", "told_before"
        async with self._desk.database.write() as connection:
            await replies.give(connection, intake, text)
            if owed and text:  # of which the ledger is told when it is sent
                await replies.owe(connection, intake, event.channel, self._desk.now())
            elif decided:
                objects = {"intake": intake, "config": self._desk.rulebook().config.hash}
                patient = self._desk.keys.lookup(CALLER, caller)
                record = Record(Action.REPLIED, objects=objects, outcome=outcome, patient=patient)
                await ledger.append(connection, [record], self._desk.now())
        self._desk.pulse.beat("replies", None)
        return text or None

    async def _decided(
        self, connection: AsyncConnection, event: IntakeEvent, caller: Phi[str], received: datetime
    ) -> str | None:
        """The words of the rule that takes the event; if it has none, of the first that adds to it."""
        book = self._desk.rulebook()
        earlier: list[datetime] = []
        if book.counts_repeats:
            since = received - LONGEST_REPEAT
            earlier = await self._desk.inbox.earlier(connection, caller, since, received)
        said = [decision.auto_reply for decision in route(book.router, event, received, earlier).all]
        return next((words for words in said if words), None)

    async def _has_just_had(
        self,
        connection: AsyncConnection,
        event: IntakeEvent,
        caller: Phi[str],
        text: str,
        received: datetime,
    ) -> bool:
        mac = self._desk.keys.lookup(CALLER, caller)
        return await replies.told(connection, event.channel, mac, text, received - NOT_AGAIN, received)
