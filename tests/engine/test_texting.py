"""The fixed words of a rule on their way to whoever wrote, on real rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.engine.loop import Wake
from bridge.engine.replies import Replies
from bridge.engine.rulebook import LiveRulebook, Rulebook
from bridge.engine.texting import PATIENCE, Texting
from bridge.model.doors import Texter
from bridge.model.errors import ReportError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.ledger import head, links
from bridge.vault import Vault
from tests.desk import desk
from tests.policy.hospital import hospital

SMS = ChannelId("sms")
SEEN = "We have your message."


@dataclass
class Clinic:
    """A channel that writes back; `fails` is what comes of the next attempts."""

    database: Database
    keys: KeyRing
    repeats: bool = True
    now: datetime = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)
    bell: Wake = field(default_factory=Wake)

    async def text(self, body: str = "hello", key: str = "1", caller: str = "+12025550100") -> None:
        """Somebody writes; the webhook is answered once what they are told is a row."""
        live = LiveRulebook(Rulebook.of(hospital(fallback={"role": "switchboard", "auto_reply": SEEN})))
        work = desk(self.database, self.keys, lambda: self.now, live)
        self.bell, replies = work.bells.texting, Replies(work)
        event = IntakeEvent(SMS, Phi(key), EventKind.TEXT, Phi(body), caller=Phi(caller))
        await replies.owe(event, (await work.inbox.accept(event)).intake)

    async def send(self, event: IntakeEvent, words: str, once: str) -> bool:
        assert event.caller is not None
        self.sent.append((event.caller.reveal(), words, once))
        if self.fails:
            raise self.fails.pop(0)
        return True

    async def tell(self, _: ChannelId, trouble: str | None) -> None:
        self.troubles.append(trouble)

    async def step(self) -> None:
        """What a bridge does that has just been started."""
        texters = {SMS: Texter(self.send, self.repeats)}
        loop = Texting(self.database, self.keys, texters, now=lambda: self.now, tell=self.tell)
        while await loop.step() == 0:
            pass

    async def outcomes(self) -> list[str]:
        async with self.database.read() as connection:
            until = (await head(connection)).seq
            found = [link async for link in links(connection, until=until)]
        return [link.record.outcome for link in found if link.record.action == "replied"]


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    made = Clinic(database, keys)
    await keys.claim(database, made.now)
    yield made
    await database.close()


async def test_a_text_is_answered_once_however_often_its_source_repeats_it(clinic: Clinic) -> None:
    for _ in range(2):
        await clinic.text()
    for _ in range(2):
        await clinic.step()
        await clinic.text()
    [(to, words, _)] = clinic.sent
    assert (to, words) == ("+12025550100", SEEN)
    assert clinic.bell._event.is_set()
    assert await clinic.outcomes() == ["told"]


async def test_an_answer_that_could_not_be_sent_is_tried_again_under_the_same_key(clinic: Clinic) -> None:
    clinic.fails = [ReportError("it answers 503", retry=True)] * 2
    await clinic.text()
    for _ in range(3):
        await clinic.step()
        clinic.now += timedelta(seconds=11)
    assert len(clinic.sent) == 3
    assert len(set(clinic.sent)) == 1
    assert await clinic.outcomes() == ["told"]
    assert clinic.troubles[0] == (
        "the auto_reply to a text could not be sent (it answers 503; it is tried again); its page goes on"
    )


async def test_what_the_provider_refuses_is_not_sent_again(clinic: Clinic) -> None:
    clinic.fails = [ReportError("it answers 401", retry=False)]
    await clinic.text()
    for _ in range(2):
        await clinic.step()
    assert len(clinic.sent) == 1
    assert await clinic.outcomes() == ["not_told"]


@pytest.mark.parametrize("repeats", [True, False])
async def test_after_a_kill_only_what_the_provider_recognises_is_sent_again(
    clinic: Clinic, *, repeats: bool
) -> None:
    clinic.repeats = repeats
    clinic.fails = [asyncio.CancelledError()]  # type: ignore[list-item]
    await clinic.text()
    with pytest.raises(asyncio.CancelledError):
        await clinic.step()
    await clinic.step()
    assert len(clinic.sent) == (2 if repeats else 1)
    assert len(set(clinic.sent)) == 1
    assert await clinic.outcomes() == ["told" if repeats else "in_doubt"]
    assert bool(clinic.troubles) is not repeats


async def test_who_writes_stop_before_it_is_sent_is_not_written_to(clinic: Clinic) -> None:
    await clinic.text()
    await clinic.text("STOP", "2")
    await clinic.step()
    assert clinic.sent == []
    assert await clinic.outcomes() == ["opted_out"]
    await clinic.text("hello?", "3")
    await clinic.step()
    assert clinic.sent == []


@pytest.mark.parametrize("repeats", [True, False])
async def test_what_could_not_be_sent_in_ten_minutes_is_not_sent_later(
    clinic: Clinic, *, repeats: bool
) -> None:
    clinic.repeats = repeats
    clinic.fails = [ReportError("it can't be reached", retry=True)] * 9
    await clinic.text()
    await clinic.step()
    clinic.now += PATIENCE + timedelta(seconds=1)
    await clinic.step()
    assert len(clinic.sent) == 1
    assert await clinic.outcomes() == ["in_doubt" if repeats else "not_told"]


async def test_one_that_fails_keeps_no_other_back_and_operations_hear_of_its_end(clinic: Clinic) -> None:
    texters = {SMS: Texter(clinic.send, repeats=True)}
    loop = Texting(clinic.database, clinic.keys, texters, now=lambda: clinic.now, tell=clinic.tell)
    clinic.fails = [ReportError("it answers 429", retry=True)]
    await clinic.text()
    await loop.step()
    await clinic.text(key="2", caller="+12025550101")
    await loop.step()
    assert [to for to, _, _ in clinic.sent] == ["+12025550100", "+12025550101"]
    assert [trouble is not None for trouble in clinic.troubles] == [True, False]
