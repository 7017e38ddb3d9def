from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bridge.config import Config
from bridge.model.ids import LadderId, PersonId, RoleId, UserId
from bridge.model.page import Page, PageState
from bridge.policy.called_in import STAY, called_in
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, CLEO, DORA, NOON, hospital, page, role

SWITCHBOARD = RoleId("switchboard")
ON_DUTY = {"name": "Cardiology on call", "members": "on_duty"}
OPERATIONS = {"after": "1 min", "notify": "operations"}


@pytest.fixture(scope="module")
def config() -> Config:
    """Ana always holds cardiology."""
    return hospital(
        roles={"cardiology": role(room=ON_DUTY, members=["ana", "ben", "cleo"])},
        ladders={
            "standard": {"steps": [{"after": "1 min", "notify": "next"}, OPERATIONS]},
            "across": {"steps": [{"after": "1 min", "role": "cardiology"}, OPERATIONS]},
        },
    )


def asked(*people: PersonId, **changes: object) -> Page:
    return replace(page(), notified=people, opened_at=NOON, **changes)  # type: ignore[arg-type]


def accepted(by: PersonId, *notified: PersonId) -> Page:
    user = UserId(f"@{by}:nightbell.test")
    return asked(*notified, state=PageState.ACCEPTED, accepted_by=user, accepted_at=NOON)


def test_whoever_a_waiting_page_notified_is_in_the_room(config: Config) -> None:
    assert called_in(config, CARDIOLOGY, [asked(BEN), asked(CLEO)], NOON) == {BEN, CLEO}


def test_who_was_on_duty_anyhow_leaves_with_their_shift(config: Config) -> None:
    assert called_in(config, CARDIOLOGY, [asked(ANA, BEN)], NOON) == {BEN}


def test_who_declined_is_not(config: Config) -> None:
    assert called_in(config, CARDIOLOGY, [asked(BEN, CLEO, declined=(BEN,))], NOON) == {CLEO}


def test_nobody_of_another_role_is(config: Config) -> None:
    assert called_in(config, CARDIOLOGY, [asked(BEN, DORA)], NOON) == {BEN}


def test_a_room_of_the_whole_roster_asks_nobody_in(config: Config) -> None:
    assert called_in(config, SWITCHBOARD, [asked(BEN, role=SWITCHBOARD)], NOON) == set()


def test_a_page_of_another_role_asks_in_where_its_ladder_leads(config: Config) -> None:
    elsewhere = asked(BEN, role=SWITCHBOARD)
    assert called_in(config, CARDIOLOGY, [elsewhere], NOON) == set()
    assert called_in(config, CARDIOLOGY, [replace(elsewhere, ladder=LadderId("across"))], NOON) == {BEN}


def test_the_others_see_who_accepted_before_they_leave(config: Config) -> None:
    taken = [accepted(CLEO, BEN, CLEO)]
    assert called_in(config, CARDIOLOGY, taken, NOON + STAY - timedelta(seconds=1)) == {BEN, CLEO}
    assert called_in(config, CARDIOLOGY, taken, NOON + STAY) == {CLEO}


def test_a_closed_page_keeps_nobody(config: Config) -> None:
    closed = replace(accepted(CLEO, BEN), state=PageState.CLOSED)
    assert called_in(config, CARDIOLOGY, [closed], NOON) == set()
