"""A bridge that starts on files without what its open pages need, on real rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bridge.engine.rulebook import Rulebook
from bridge.model.ids import UserId
from bridge.model.page import PageState
from bridge.store import pages
from tests.engine.conftest import DUTY, House
from tests.policy.hospital import ROUTING, hospital, role

ADA = UserId("@ana:nightbell.test")


async def test_a_page_of_a_role_that_is_gone_rings_with_the_fallback_and_climbs_there(house: House) -> None:
    await house.text("chest pain")
    await house.restart()
    [page] = await house.pages()
    assert (page.role, page.notified, page.step) == ("switchboard", ("ana",), 0)
    assert "page" in await house.waiting("role:switchboard")
    assert await house.waiting("role:duty") == []
    assert await house.waiting("operations") == ["notice"]
    await house.climb(minutes=1)
    [page] = await house.pages()
    assert page.step == 1
    assert "nudge" in await house.waiting("role:switchboard")


async def test_it_is_done_once(house: House) -> None:
    await house.text("chest pain")
    for _ in range(2):
        await house.restart()
    assert await house.waiting("operations") == ["notice"]
    assert (await house.waiting("role:switchboard")).count("page") == 1


async def test_a_page_that_somebody_has_accepted_stays_theirs_and_can_be_closed(house: House) -> None:
    page = await house.text("chest pain")
    async with house.database.write() as connection:
        await pages.accept_page(connection, page.id, ADA, house.now())
    await house.restart()
    [page] = await house.pages()
    assert (page.role, page.state, page.accepted_by) == ("switchboard", PageState.ACCEPTED, ADA)
    assert (await house.waiting("role:switchboard")).count("page") == 1
    await house.climb(hours=1)
    assert [page.state for page in await house.pages()] == [PageState.ACCEPTED]


async def test_a_page_whose_ladder_is_gone_begins_that_of_its_role(house: House) -> None:
    steps = [{"after": "9 h", "notify": "operations"}]
    fast = ROUTING["ladders"] | {"slow": {"steps": steps}}
    rules = [{"when": {}, "then": {"role": "duty", "ladder": "slow", "template": "short"}}]
    templates = ROUTING["templates"] | {"short": {"lines": ["{body}"]}}
    house.live.replace(
        Rulebook.of(hospital(**DUTY | {"rules": rules, "ladders": fast, "templates": templates}))
    )
    await house.text("chest pain")
    await house.restart(**DUTY)
    [page] = await house.pages()
    assert (page.role, page.ladder, page.template) == ("duty", "standard", "plain")
    assert "nudge" in await house.waiting("role:duty")
    await house.climb(minutes=1)
    assert [page.step for page in await house.pages()] == [1]


async def test_a_page_that_waits_for_its_hour_rings_at_it_with_the_fallback(house: House) -> None:
    held: dict[str, Any] = {
        "defaults": ROUTING["defaults"] | {"priority": "routine", "quiet_hours": "nights"},
        "quiet_hours": {"nights": {"hours": "22:00-07:00"}},
    }
    house.live.replace(Rulebook.of(hospital(**DUTY | held)))
    await house.text("pain since monday")
    await house.restart(**held)
    [page] = await house.pages()
    assert (page.role, page.held_until) == ("switchboard", datetime(2026, 11, 24, 6, tzinfo=UTC))
    assert await house.waiting("role:switchboard") == []
    await house.climb(hours=3)
    assert "page" in await house.waiting("role:switchboard")


async def test_pages_that_lack_nothing_are_left_alone(house: House) -> None:
    before = await house.text("chest pain")
    await house.restart(**DUTY)
    assert await house.pages() == [before]
    assert await house.waiting("operations") == []


async def test_who_was_notified_and_has_left_the_files_is_passed_over(house: House) -> None:
    await house.text("chest pain")
    others = role(members=["ben", "cleo", "dora"], schedule={"layers": [{"people": "ben"}]})
    changed = dict.fromkeys(("duty", "cardiology", "switchboard"), others)
    files = hospital(**DUTY | {"roles": changed})
    people = {name: person for name, person in files.roster.people.items() if name != "ana"}
    roster = files.roster.model_copy(update={"people": people})
    house.live.replace(Rulebook.of(replace(files, roster=roster)))
    await house.climb(minutes=1)
    [page] = await house.pages()
    assert (page.step, page.notified[-1]) == (2, "ben")
