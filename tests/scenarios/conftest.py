"""One hospital for each module, which says how it is staffed and when its story begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.shift import Shift
from tests.scenarios.story import at, rows, write_config

MEMBERS = "SELECT room_id, user_id, membership FROM member JOIN room USING (room_id)"


@pytest.fixture(scope="module")
async def hospital(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hospital]:
    story = request.module
    directory = tmp_path_factory.mktemp("hospital")
    config = write_config(directory / "config", roles=story.ROLES, routing=story.ROUTING)
    staff = (*story.STAFF, *getattr(story, "AWAY", ()), "operator")
    async with Hospital(directory, config=config, staff=staff, clock=at(story.BEGINS)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def staff(hospital: Hospital, request: pytest.FixtureRequest) -> AsyncIterator[Mapping[str, Clinician]]:
    """Everybody of the story at their phones, with the keys of their rooms; only those of `AWAY` never log in."""
    async with Shift(hospital) as shift:
        phones = {name: await shift.nio(name) for name in (*request.module.STAFF, "operator")}
        async with asyncio.timeout(120):
            while not all_can_read(hospital, phones):
                await asyncio.sleep(0.2)
        yield phones


def all_can_read(hospital: Hospital, phones: Mapping[str, Clinician]) -> bool:
    """Whether everybody has joined, and has the keys of, the rooms that they were asked into."""
    members = rows(hospital, MEMBERS)
    if not members or any(membership == "invite" for *_, membership in members):
        return False
    joined = {(user, room) for room, user, membership in members if membership == "join"}
    keyed = {(phone.user_id, room) for phone in phones.values() for room in phone.rooms_with_keys}
    users = {phone.user_id for phone in phones.values()}
    return {(user, room) for user, room in joined if user in users} <= keyed
