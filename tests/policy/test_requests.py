from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge.model.ids import PersonId, RoleId, UserId
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.policy.commands import NotUnderstood, Verb
from bridge.policy.requests import Target, find_target, give, refusal, snooze_for, take
from bridge.policy.schedule import Change
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, CLEO, NOON, hospital, local, page, role, scheduled

ANA_S_ACCOUNT, BEN_S_ACCOUNT = UserId("@ana:nightbell.test"), UserId("@ben:nightbell.test")
ACCEPTED: dict[str, Any] = {"state": PageState.ACCEPTED, "accepted_by": ANA_S_ACCOUNT, "accepted_at": NOON}
DAYS = {"people": ["ana", "ben"], "hand_off": {"every": "day", "from": "2026-11-01 08:00"}}


def refused(verb: Verb, of: Page | None = None, user: UserId = ANA_S_ACCOUNT, **of_role: Any) -> str | None:
    return refusal(hospital(roles={"cardiology": role(**of_role)}), verb, CARDIOLOGY, user, of)


@pytest.mark.parametrize("verb", [Verb.ACCEPT, Verb.DECLINE, Verb.FORWARD, Verb.SNOOZE])
def test_a_member_may_act_on_a_waiting_page(verb: Verb) -> None:
    assert refused(verb, page()) is None


def test_a_stranger_may_only_ask() -> None:
    stranger = UserId("@x:nightbell.test")
    found = (refused(Verb.ACCEPT, page(), stranger), refused(Verb.ONCALL, None, stranger))
    assert found == ("I don't know your account. An administrator can add it to roles.yaml.", None)


def test_a_person_of_another_role_is_told_so() -> None:
    found = refused(Verb.ACCEPT, page(), BEN_S_ACCOUNT, members=["ana"])
    assert found == "That is for Cardiology on call, which you are not a member of."


def test_the_backup_is_one_of_the_roles_people() -> None:
    assert refused(Verb.ACCEPT, page(), BEN_S_ACCOUNT, members=["ana"], backup="ben") is None


def test_only_who_accepted_sees_the_number() -> None:
    found = [refused(Verb.CALL_BACK, page(**ACCEPTED), user) for user in (ANA_S_ACCOUNT, BEN_S_ACCOUNT)]
    assert found == [None, "Accept the page first; then I show you the number."]


@pytest.mark.parametrize(
    ("verb", "of", "start"),
    [
        (Verb.SNOOZE, page(priority=Priority.STAT), "A STAT page can't wait"),
        (Verb.DECLINE, page(**ACCEPTED), "Somebody has accepted"),
        (Verb.CLOSE, page(), "Accept the page first"),
        (Verb.ACCEPT, page(state=PageState.CLOSED), "This page is closed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(verb: Verb, of: Page, start: str) -> None:
    assert (refused(verb, of) or "").startswith(start)


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("ana", Target(person=PersonId("ana"))),
        ("dr. BEN meyer", Target(person=PersonId("ben"))),
        ("cardiology", Target(role=RoleId("cardiology"))),
        ("switch", Target(role=RoleId("switchboard"))),
        ("clea", Target(person=PersonId("cleo"))),
    ],
)
def test_a_target_is_found_by_id_name_or_a_part_of_it(said: str, target: Target) -> None:
    assert find_target(hospital(), Phi(said)) == target


def test_a_name_that_fits_several_is_asked_back() -> None:
    found = find_target(hospital(), Phi("Meyer"))
    assert found == NotUnderstood("Whom do you mean: ana or ben or cleo or dora?")


@pytest.mark.parametrize(("said", "minutes"), [("", 10), ("5", 5), ("1 h", 60)])
def test_a_snooze_is_as_long_as_is_said(said: str, minutes: int) -> None:
    assert snooze_for(Phi(said)) == timedelta(minutes=minutes)


@pytest.mark.parametrize("said", ["2 h", "a bit", "9" * 20, "9" * 5000])
def test_a_snooze_that_is_too_long_or_unclear_is_asked_back(said: str) -> None:
    assert isinstance(snooze_for(Phi(said)), NotUnderstood)


def test_taking_a_role_lasts_until_the_present_shift_ends() -> None:
    change = take(scheduled(DAYS), CARDIOLOGY, CLEO, NOON)
    assert change == Change(CARDIOLOGY, NOON, local("2026-11-25 08:00"), CLEO)


def test_only_the_holder_can_give() -> None:
    config = scheduled(DAYS)
    found = (give(config, CARDIOLOGY, ANA, NOON, to=CLEO), give(config, CARDIOLOGY, BEN, NOON, to=CLEO))
    assert found == (
        NotUnderstood("You don't have it now, so you can't give it."),
        Change(CARDIOLOGY, NOON, local("2026-11-25 08:00"), CLEO),
    )


def test_a_role_is_not_given_to_who_is_on_leave() -> None:
    leave = {"cleo": {"leave": [{"from": "2026-11-24", "until": "2026-11-25"}]}}
    assert give(scheduled(DAYS, people=leave), CARDIOLOGY, BEN, NOON, to=CLEO) == NotUnderstood(
        "Dr. Cleo Meyer is on leave."
    )
