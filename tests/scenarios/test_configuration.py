"""A configuration that changes while the bridge runs, one that leaves a gap, and rosters kept elsewhere."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web

from testbed.bridge import CommandFailedError
from testbed.clinician import Clinician, Message
from testbed.hospital import Hospital
from testbed.process import free_port
from tests.scenarios.story import SOON, at, people, shows

BEGINS = "2026-11-24 09:00"
STAFF = ("ada", "ben")
Staff = Mapping[str, Clinician]
LINE = "+15550100100"
CALENDAR_PORT = free_port()
ROLES = f"""
{people(*STAFF)}
calendars: {{duty: {{url: "http://127.0.0.1:{CALENDAR_PORT}/duty.ics", refresh: 10 min}}}}
roles:
  cardiology:
    name: Cardiology
    room: {{name: Cardiology}}
    members: [ada, ben]
    schedule: {{layers: [{{people: ada}}]}}
  duty:
    name: Duty
    room: {{name: Duty}}
    members: [ada, ben]
    schedule: {{layers: [{{calendar: duty}}, {{people: ada}}]}}
"""
ROUTING = """
defaults: {priority: urgent, ladder: patient, template: standard, retention: standard}
rules: [{when: {words: duty}, then: {role: duty}}]
fallback: {role: cardiology}
ladders:
  patient: {steps: [{after: 20 h, notify: next}, {after: 20 h, notify: operations}]}
"""
ENTRY = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20261101T000000Z
DTSTART;VALUE=DATE:20261101
DTEND;VALUE=DATE:20270601
SUMMARY:Dr. Ben
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture(scope="module")
async def elsewhere() -> AsyncIterator[list[str]]:
    """A server of calendars; it gives the first of the texts, and an error while there is none."""
    texts: list[str] = []

    async def give(_request: web.Request) -> web.Response:
        return web.Response(text=texts[0]) if texts else web.Response(status=503)

    application = web.Application()
    application.router.add_get("/duty.ics", give)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", CALENDAR_PORT).start()
    yield texts
    await runner.cleanup()


def roster(hospital: Hospital) -> Path:
    return hospital.bridge.config / "roles.yaml"


def holds(name: str) -> str:
    return ROLES.replace("layers: [{people: ada}]", f"layers: [{{people: {name}}}]")


def write(hospital: Hospital, roles: str) -> None:
    roster(hospital).write_text(f"time_zone: America/New_York\n{roles}")


async def test_a_good_file_takes_effect_at_sighup(hospital: Hospital, staff: Staff) -> None:
    write(hospital, holds("ben"))
    hospital.bridge.signal(signal.SIGHUP)
    await staff["operator"].message("is in force.", SOON)
    await hospital.text("after the reload", to=LINE)
    assert "notified Dr. Ben" in (await staff["ben"].message("after the reload")).body


async def test_a_bad_file_changes_nothing_and_operations_are_told_the_line(
    hospital: Hospital, staff: Staff
) -> None:
    write(hospital, holds("zoe"))
    hospital.bridge.signal(signal.SIGHUP)
    told = await staff["operator"].message("The new configuration was not taken", SOON)
    line = 1 + roster(hospital).read_text().splitlines().index("    schedule: {layers: [{people: zoe}]}")
    assert f"{roster(hospital)}:{line}:" in told.body
    await hospital.text("after a bad file", to=LINE)
    assert "notified Dr. Ben" in (await staff["ben"].message("after a bad file")).body


async def test_a_word_in_the_operations_room_reloads_too(hospital: Hospital, staff: Staff) -> None:
    operator = staff["operator"]
    write(hospital, holds("ada"))
    before = len([m for m in operator.messages if "is in force" in m.body])
    room = (await operator.message("is in force")).room_id
    await operator.say(room, "reload")
    await operator.wait_for(lambda: len([m for m in operator.messages if "is in force" in m.body]) > before)


async def test_the_command_says_what_came_of_it(hospital: Hospital, staff: Staff) -> None:
    write(hospital, holds("ben"))
    assert "is in force." in await hospital.bridge.command("reload")
    write(hospital, holds("ben, only: {hours: 08:00-20:00}"))
    with pytest.raises(CommandFailedError, match='role "cardiology" has nobody from'):
        await hospital.bridge.command("reload")


async def test_a_rule_with_words_for_the_sender_is_taken_only_where_they_can_go(
    hospital: Hospital, staff: Staff
) -> None:
    routing = hospital.bridge.config / "routing.yaml"
    before = routing.read_text()
    rule = (
        "{when: {channel: CHANNEL, words: parking}, then: {role: cardiology, auto_reply: Ask at the gate.}}"
    )
    routing.write_text(before.replace("rules: [", f"rules: [{rule.replace('CHANNEL', 'events')}, "))
    with pytest.raises(CommandFailedError, match='"auto_reply" can\'t be sent by channel "events"'):
        await hospital.bridge.command("reload")
    routing.write_text(before.replace("rules: [", f"rules: [{rule.replace('CHANNEL', 'clinic-sms')}, "))
    write(hospital, holds("ben"))
    await hospital.bridge.command("reload")
    answer = await hospital.text("Is there parking?", to=LINE)
    assert "<Message>Ask at the gate.</Message>" in answer.body
    await staff["ben"].message("Is there parking?")
    routing.write_text(before)


async def test_a_role_with_open_pages_is_not_taken_away(hospital: Hospital, staff: Staff) -> None:
    await hospital.text("duty calls", to=LINE)
    page = await staff["ada"].message("duty calls")
    routing = hospital.bridge.config / "routing.yaml"
    before = routing.read_text()
    routing.write_text(before.replace("rules: [{when: {words: duty}, then: {role: duty}}]", ""))
    write(hospital, holds("ben").partition("  duty:\n")[0])
    with pytest.raises(CommandFailedError, match='role "duty" is gone, and open pages need it'):
        await hospital.bridge.command("reload")
    await staff["ada"].react(page.event_id, "✅")
    await shows(staff["ada"], page, "Accepted by Dr. Ada")
    routing.write_text(before)
    write(hospital, holds("ben, only: {hours: 08:00-20:00}"))


async def test_a_bridge_with_a_gap_before_it_starts_all_the_same_and_says_so(
    hospital: Hospital, staff: Staff
) -> None:
    await hospital.bridge.stop()
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    told = await staff["operator"].message("does not reach somebody at every minute", SOON)
    assert 'role "cardiology" has nobody from' in told.body
    health = await hospital.bridge.health()
    assert health is not None
    assert health["parts"]["coverage"] == "1 problems; run nightbell check"
    await hospital.text("with a gap ahead", to=LINE)
    assert "notified Dr. Ben" in (await staff["ben"].message("with a gap ahead")).body
    write(hospital, holds("ben"))
    await hospital.bridge.command("reload")


async def test_a_calendar_that_is_not_to_be_had_is_told_once(
    hospital: Hospital, staff: Staff, elsewhere: list[str]
) -> None:
    operator = staff["operator"]
    told = await operator.message('The calendar "duty" could not be fetched', SOON)
    assert "It names nobody yet" in told.body
    await hospital.text("duty before the calendar", to=LINE)
    assert "notified Dr. Ada" in (await staff["ada"].message("duty before the calendar")).body


async def test_a_calendar_that_comes_is_the_roster(
    hospital: Hospital, staff: Staff, elsewhere: list[str]
) -> None:
    elsewhere.append(ENTRY)
    hospital.travel(at("2026-11-24 10:00"))
    await staff["ben"].message("Dr. Ben now has Duty.", SOON)
    await hospital.text("duty by the calendar", to=LINE)
    assert "notified Dr. Ben" in (await staff["ben"].message("duty by the calendar")).body


async def test_the_last_good_copy_outlives_the_calendars_server_and_a_restart(
    hospital: Hospital, staff: Staff, elsewhere: list[str]
) -> None:
    elsewhere[0] = "not a calendar at all"
    hospital.travel(at("2026-11-24 10:20"))
    told = await staff["operator"].message("it is no iCalendar file", SOON)
    assert "The last good copy stays" in told.body
    await hospital.bridge.stop()
    await hospital.bridge.start()
    await hospital.text("duty after a restart", to=LINE)
    assert "notified Dr. Ben" in (await staff["ben"].message("duty after a restart")).body


async def test_open_pages_of_a_role_that_is_gone_after_a_restart_go_to_the_fallback(
    hospital: Hospital, staff: Staff
) -> None:
    await hospital.text("duty has been abolished", to=LINE)
    before = await staff["ben"].message("duty has been abolished")
    await hospital.bridge.stop()
    routing = hospital.bridge.config / "routing.yaml"
    routing.write_text(routing.read_text().replace("rules: [{when: {words: duty}, then: {role: duty}}]", ""))
    write(hospital, holds("ada").partition("  duty:\n")[0])
    await hospital.bridge.start()
    told = await staff["operator"].message('The configuration has no role "duty" any more', SOON)
    assert "it is with Cardiology now" in told.body
    ada = staff["ada"]

    def again() -> Message | None:
        return next((m for m in ada.messages if "abolished" in m.body and m.room_id != before.room_id), None)

    page = await ada.wait_for(again, SOON)
    assert "notified Dr. Ada" in page.body
    await ada.react(page.event_id, "✅")
    await shows(ada, page, "Accepted by Dr. Ada")
