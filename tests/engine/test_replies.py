"""What the sender of a text is told, on real rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.engine.desk import Desk
from bridge.engine.replies import Replies
from bridge.engine.rulebook import LiveRulebook, Rulebook
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.store.ledger import head, links
from bridge.vault import Vault
from tests.desk import desk
from tests.policy.hospital import hospital

CALLED = "We have called a doctor."
SEEN = "We have your message."
RULES: dict[str, Any] = {
    "rules": [
        {
            "id": "chest-pain",
            "when": {"channel": "sms", "words": "chest pain"},
            "then": {"role": "cardiology", "auto_reply": CALLED},
        },
        {"id": "fever", "when": {"channel": "sms", "words": "fever"}, "then": {"role": "cardiology"}},
    ],
    "fallback": {"role": "switchboard", "auto_reply": SEEN},
}


@dataclass
class House:
    """The inbox and what answers beside it, on a clock that the test sets."""

    desk: Desk
    replies: Replies
    now: datetime = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)

    async def text(
        self, body: str, key: str, caller: str | None = "+15550200", channel: str = "sms"
    ) -> str | None:
        """What somebody is told who writes this."""
        event = IntakeEvent(
            ChannelId(channel), Phi(key), EventKind.TEXT, Phi(body), caller=protect_optional(caller)
        )
        receipt = await self.desk.inbox.accept(event)
        return await self.replies(event, receipt.intake)

    def later(self, **time: int) -> None:
        self.now += timedelta(**time)

    def use(self, **routing: Any) -> None:
        self.desk.rulebook.replace(Rulebook.of(hospital(**routing)))

    async def outcomes(self) -> list[str]:
        async with self.desk.database.read() as connection:
            until = (await head(connection)).seq
            found = [link async for link in links(connection, until=until)]
        return [link.record.outcome for link in found if link.record.action == "replied"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    keys = KeyRing(Vault(bytes(range(32))))
    live = LiveRulebook(Rulebook.of(hospital(**RULES)))
    made: list[House] = []

    def now() -> datetime:
        return made[0].now

    work = desk(database, keys, now, live)
    made.append(House(work, Replies(work)))
    await keys.claim(database, made[0].now)
    yield made[0]
    await database.close()


async def test_the_sender_is_told_what_the_rule_that_takes_the_text_says(house: House) -> None:
    assert await house.text("I have chest pain", "1") == CALLED
    assert await house.text("Where do I park?", "2") == SEEN
    assert await house.text("a fever since noon", "3") is None
    assert await house.outcomes() == ["told", "told"]


async def test_whoever_asks_again_is_told_the_same_whatever_has_changed_meanwhile(house: House) -> None:
    assert await house.text("chest pain", "1") == CALLED
    house.later(hours=3)
    house.use(fallback={"role": "switchboard", "auto_reply": "Something else."})
    assert await house.text("chest pain", "1") == CALLED
    assert await house.outcomes() == ["told"]


async def test_the_same_words_are_not_said_twice_within_ten_minutes(house: House) -> None:
    assert await house.text("Where do I park?", "1") == SEEN
    house.later(minutes=9)
    assert await house.text("Automatic answer: we are away", "2") is None
    assert await house.text("chest pain", "3") == CALLED
    assert await house.text("Hello?", "4", caller="+15550201") == SEEN
    house.later(minutes=2)
    assert await house.text("And when do you open?", "5") == SEEN
    assert await house.outcomes() == ["told", "told_before", "told", "told", "told"]


async def test_whoever_wants_no_more_texts_gets_none_until_they_want_some_again(house: House) -> None:
    assert await house.text("STOP", "1") is None
    assert await house.text("I have chest pain", "2") is None
    assert await house.text("I have chest pain", "3", caller="+15550201") == CALLED
    assert await house.text("Start", "4") == SEEN
    assert await house.text("chest pain again", "5") == CALLED
    assert await house.outcomes() == ["opted_out", "told", "told", "told"]


async def test_a_wish_holds_for_the_channel_on_which_it_was_said_and_before_any_rule_answers(
    house: House,
) -> None:
    house.use()
    assert await house.text("stop", "1") is None
    house.use(fallback={"role": "switchboard", "auto_reply": SEEN})
    assert await house.text("hello", "2") is None
    assert await house.text("hello", "3", channel="other") == SEEN


async def test_a_third_text_in_ten_minutes_is_answered_by_the_rule_about_repeats(house: House) -> None:
    often = {"when": {"repeats": {"at_least": 3, "within": "10 min"}}}
    house.use(
        **RULES | {"rules": [often | {"then": {"role": "cardiology", "auto_reply": "Please call 911."}}]}
    )
    said = []
    for number in range(3):
        house.later(minutes=2)
        said.append(await house.text("hello?", str(number)))
    assert said == [SEEN, None, "Please call 911."]


async def test_a_text_without_a_number_is_not_answered(house: House) -> None:
    assert await house.text("chest pain", "1", caller=None) is None


async def test_an_answer_that_cannot_be_found_leaves_the_event_accepted_and_health_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("bridge.engine.replies.route", broken)
        assert await house.text("chest pain", "1") is None
    async with house.desk.database.read() as connection:
        assert len(await house.desk.inbox.waiting(connection, 10)) == 1
    assert house.desk.pulse.parts()["replies"] == "ZeroDivisionError"
    assert await house.text("chest pain", "1") == CALLED
    assert house.desk.pulse.parts()["replies"] == "well"
