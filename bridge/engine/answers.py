"""What clinicians say and tap in the rooms, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from html import escape

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.engine import commands
from bridge.engine.desk import Desk
from bridge.engine.messages import message
from bridge.ledger import Action, Record
from bridge.model.doors import OPERATIONS, Courier, Destination, RawRoomEvent, RoomMessage
from bridge.model.errors import HomeserverError, StoreUnavailableError, UnreadableError
from bridge.model.ids import RetentionClassId, UserId
from bridge.model.page import Page
from bridge.model.phi import Phi
from bridge.policy.answering import chosen
from bridge.policy.commands import Command, NotUnderstood, Verb, parse, parse_reaction
from bridge.policy.ladder import Reachable, everybody
from bridge.policy.rendering import PageText
from bridge.policy.requests import find_target, roles_of
from bridge.store import identities, ledger, matrix_inbox, outbox, pages
from bridge.store.outbox import Draft, Purpose
from bridge.vault import Key, KeyDestroyedError

BATCH = 50
# Keys travel apart from messages and may come after them.
PATIENCE = timedelta(minutes=5)
APPROVE_WORDS = 2  # approve @user:domain
ANSWER_CLASS = RetentionClassId("operations")

UNTRUSTED = (
    "I can't act on this: it came from a session that isn't verified. Tap ✅ instead, or verify the session."
)
UNREADABLE = "I could not read the last message: its key never came. Please tap ✅, or write it again."
GONE = "What this is about is destroyed already, as its retention says."

log = structlog.get_logger(__name__)


class Answers:
    """Acts on each stored room event once, in the order in which they came."""

    def __init__(self, desk: Desk, courier: Courier, reload: Callable[[], None]) -> None:
        self._desk = desk
        self._courier = courier
        self._reload = reload

    async def step(self) -> float | None:
        """Act on what waits, the new before what could not be read yet. Returns 0 if more may wait, else None."""
        async with self._desk.database.read() as connection:
            waiting = await matrix_inbox.waiting_events(connection, BATCH)
            rooms = {
                room: Destination.parse(name) for name, room in (await matrix_inbox.rooms(connection)).items()
            }
        for raw in waiting:
            await self._take(raw, rooms.get(raw.room))
        return 0 if len(waiting) == BATCH and any(raw.attempts == 0 for raw in waiting) else None

    async def _take(self, raw: RawRoomEvent, destination: Destination | None) -> None:
        try:
            await self._act(raw, destination)
        except UnreadableError as error:
            await self._wait_or_complain(raw, destination, str(error))
        except KeyDestroyedError:
            # Its time was over while somebody wrote; what others write must be taken.
            async with self._desk.database.write() as connection:
                await matrix_inbox.settle_event(connection, raw.seq, "done")
                if destination is not None:
                    await self._answer(connection, destination, raw, GONE)
            self._desk.bells.deliver.ring()
        except Exception as error:
            if isinstance(error, StoreUnavailableError) or (
                isinstance(error, HomeserverError) and error.retry
            ):
                raise
            # Whatever somebody has written, what the others write must be taken.
            log.exception("message_failed", event_id=raw.event, room=raw.room, error=type(error).__name__)
            async with self._desk.database.write() as connection:
                await matrix_inbox.settle_event(connection, raw.seq, "failed")

    async def _act(self, raw: RawRoomEvent, destination: Destination | None) -> None:
        said = await self._courier.read(raw) if destination is not None else None
        if said is not None and said.text is None and said.reaction is None:
            async with self._desk.database.write() as connection:
                await matrix_inbox.keep_files(connection, said.event, said.files)
                await matrix_inbox.settle_event(connection, raw.seq, "done")
            return
        # Before the transaction: to find out who can be reached may take the homeserver, and rows of its own.
        reachable = await self._reachable(said) if said is not None else everybody
        async with self._desk.database.write() as connection:
            if said is not None and destination is not None:
                if said.about and await outbox.is_awaited(connection, said.about, said.room, raw.received_at):
                    # People can be quicker than the homeserver's answer to us.
                    message = "what this is about may be a message whose sending is not answered yet"
                    raise UnreadableError(message)
                if destination == OPERATIONS:
                    await self._obey_operations(connection, said, destination)
                else:
                    await self._obey(connection, said, destination, reachable)
            await matrix_inbox.settle_event(connection, raw.seq, "done")
        self._desk.bells.decided()
        self._desk.bells.retain.ring()  # something may have been recalled

    async def _wait_or_complain(
        self, raw: RawRoomEvent, destination: Destination | None, reason: str
    ) -> None:
        async with self._desk.database.write() as connection:
            if self._desk.now() - raw.received_at < PATIENCE:
                await matrix_inbox.count_attempt(connection, raw.seq)
                return
            log.warning("message_unreadable", event_id=raw.event, room=raw.room, reason=reason)
            await matrix_inbox.settle_event(connection, raw.seq, "unreadable")
            if destination is not None:
                await self._answer(connection, destination, raw, UNREADABLE)
        self._desk.bells.deliver.ring()

    async def _reachable(self, said: RoomMessage) -> Reachable:
        """Who can be reached, where what was said may need it."""
        asked = parse(said.text, addressed=True) if said.text is not None else None
        if not isinstance(asked, Command) or asked.verb is not Verb.FORWARD:
            return everybody
        config = self._desk.rulebook().config
        target = find_target(config, asked.argument)
        homes = [] if isinstance(target, NotUnderstood) else roles_of(config, target)
        return await self._desk.situation.reachable(config, [Destination(role) for role in homes])

    async def _obey(
        self, connection: AsyncConnection, said: RoomMessage, destination: Destination, reachable: Reachable
    ) -> None:
        page = await pages.page_of_event(connection, said.about, said.room) if said.about else None
        if said.reaction is not None:
            asked: Command | NotUnderstood | None = parse_reaction(said.reaction) if page else None
        else:
            assert said.text is not None  # noqa: S101 - what is no reaction is a text
            asked = parse(said.text, addressed=page is not None)
        if asked is None:
            return
        if isinstance(asked, NotUnderstood) and page is not None and said.text is not None:
            event, _ = await self._desk.inbox.event_of(connection, page.latest or page.intake)
            asked = chosen(event, said.text) or asked
        answer: str | None
        if isinstance(asked, NotUnderstood):
            answer = asked.answer
        elif not said.trusted:
            answer = UNTRUSTED
            await self._refuse(connection, said, page)
        else:
            config, now = self._desk.rulebook().config, self._desk.now()
            asker = commands.Asked(
                connection=connection,
                keys=self._desk.keys,
                inbox=self._desk.inbox,
                config=config,
                situation=self._desk.situation,
                reachable=reachable,
                said=said,
                destination=destination,
                command=asked,
                page=page,
                now=now,
            )
            answer = await commands.obey(asker)
        if answer is not None:
            await self._answer(connection, destination, said, answer, page)

    async def _obey_operations(
        self, connection: AsyncConnection, said: RoomMessage, destination: Destination
    ) -> None:
        words = said.text.reveal().split() if said.text else []
        if [word.casefold() for word in words] == ["reload"]:
            if said.trusted:
                self._reload()
            else:
                await self._answer(connection, destination, said, UNTRUSTED)
            return
        if len(words) != APPROVE_WORDS or words[0].casefold() != "approve":
            return
        user = UserId(words[1])
        if not said.trusted:
            await self._refuse(connection, said, None)
            await self._answer(connection, destination, said, UNTRUSTED)
            return
        reported = await identities.waiting(connection, user)
        if reported is None or not await self._courier.approve_identity(user, reported):
            await self._answer(
                connection, destination, said, f"No changed identity of {user} is waiting here."
            )
            return
        await identities.approve(connection, user, reported)
        log.warning("identity_approved", user=user, by=said.sender)
        vouched = Record(Action.IDENTITY_APPROVED, said.sender, objects={"user": user, "key": reported})
        await ledger.append(connection, [vouched], self._desk.now())
        await self._answer(connection, destination, said, f"{user} is trusted again.")

    async def _refuse(self, connection: AsyncConnection, said: RoomMessage, page: Page | None) -> None:
        record = Record(
            Action.REFUSED,
            said.sender,
            page=page.id if page else None,
            objects={"room": said.room, "event": said.event},
            outcome="session_not_verified",
        )
        await ledger.append(connection, [record], self._desk.now())

    async def _answer(
        self,
        connection: AsyncConnection,
        destination: Destination,
        to: RoomMessage | RawRoomEvent,
        text: str,
        page: Page | None = None,
    ) -> None:
        """Answer somebody. What is said about a page is sealed, and goes away, with the page's content."""
        now = self._desk.now()
        html = escape(text).replace("\n", "<br>")
        content = message(PageText(Phi(text), Phi(html), (to.sender,), notice=True))
        key = await self._key_of(connection, page)
        if key is None:
            page, key = None, await self._desk.keys.new_data_key(connection, ANSWER_CLASS, now)
        draft = Draft(
            destination,
            Purpose.ANSWER,
            content,
            key,
            page=page.id if page else None,
            target_event=to.event,
        )
        await outbox.put(connection, [draft], now)

    async def _key_of(self, connection: AsyncConnection, page: Page | None) -> Key | None:
        """The key of a page's content; None where there is no page, or none that has content."""
        if page is None:
            return None
        try:
            _, key = await self._desk.inbox.event_of(connection, page.latest or page.intake)
        except KeyDestroyedError:
            return None
        return key
