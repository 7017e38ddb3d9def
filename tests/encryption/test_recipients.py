from testbed.clinician import Clinician
from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward


async def test_an_unsigned_device_is_refused_the_key_and_told_so(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann, ben = ward.people
    trusted = await shift.nio(ann)
    unsigned = await shift.nio(ben, signed=False)
    await hospital.text("for signed devices only", to=ward.number)
    message = await trusted.message("for signed devices only")
    session = await trusted.session_of(message)
    await unsigned.wait_for(lambda: message.event_id in unsigned.undecryptable)
    await unsigned.wait_for(lambda: unsigned.withheld.get(session) == "m.unverified")
    assert session in trusted.sessions
    assert session not in unsigned.sessions


async def test_an_unsigned_device_that_comes_later_is_told_so_too(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    trusted = await shift.nio(ward.people[0])
    await hospital.text("before", to=ward.number)
    session = await trusted.session_of(await trusted.message("before"))
    unsigned = await shift.nio(ward.people[0], "tablet", signed=False)
    await hospital.text("after", to=ward.number)
    message = await trusted.message("after")
    assert await trusted.session_of(message) == session
    await unsigned.wait_for(lambda: message.event_id in unsigned.undecryptable)
    await unsigned.wait_for(lambda: unsigned.withheld.get(session) == "m.unverified")


async def test_a_device_added_later_reads_the_next_message_and_not_the_one_before(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    await hospital.text("the earlier one", to=ward.number)
    earlier = await phone.message("the earlier one")
    tablet = await shift.nio(ward.people[0], "tablet")
    await tablet.entrusted()
    await hospital.text("the later one", to=ward.number)
    await tablet.message("the later one")
    await phone.message("the later one")
    assert earlier.event_id in tablet.undecryptable
    assert await phone.session_of(earlier) not in tablet.sessions


async def test_a_device_that_is_deleted_gets_no_key_any_more(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    phone = await shift.nio(ward.people[0])
    lost = await shift.nio(ward.people[0], "lost")
    await lost.entrusted()
    await hospital.text("while she has it", to=ward.number)
    message = await phone.message("while she has it")
    before = await phone.session_of(message)
    assert before in lost.sessions
    known = phone.sessions
    await lost.logout()
    await phone.wait_for(lambda: phone.sessions - known)
    await hospital.text("when it is gone", to=ward.number)
    after = await phone.session_of(await phone.message("when it is gone"))
    assert after != before


async def test_a_device_that_becomes_signed_reads_the_next_message(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    trusted = await shift.nio(ward.people[0])
    late = await shift.nio(ward.people[1], signed=False)
    await hospital.text("too early", to=ward.number)
    early = await trusted.message("too early")
    await late.wait_for(lambda: early.event_id in late.undecryptable)
    await late.replace_identity()
    await late.entrusted()
    await hospital.text("in time", to=ward.number)
    await late.message("in time")
    assert early.event_id in late.undecryptable


def reports(operator: Clinician, user: str) -> int:
    return sum(f"{user} has a new encryption identity" in message.body for message in operator.messages)


async def test_a_changed_identity_gets_nothing_until_operations_approve_it(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    ann, ben = ward.people
    user = hospital.user_id(ben)
    operator, witness, changed = await shift.nio("operator"), await shift.nio(ann), await shift.nio(ben)
    await changed.entrusted()
    await hospital.text("before the change", to=ward.number)
    await changed.message("before the change")
    before = changed.sessions

    await changed.replace_identity()
    alert = await operator.message(f"{user} has a new encryption identity")
    await hospital.text("after the change", to=ward.number)
    message = await witness.message("after the change")
    await changed.wait_for(lambda: message.event_id in changed.undecryptable)

    unsigned = await shift.nio("operator", "tablet", signed=False)
    await unsigned.say(alert.room_id, f"approve {user}")
    await operator.message("isn't verified")
    assert changed.sessions == before

    await operator.say(alert.room_id, f"approve {user}")
    await operator.message(f"{user} is trusted again")
    await changed.wait_for(lambda: changed.sessions - before)
    await hospital.text("after the approval", to=ward.number)
    await changed.message("after the approval")
    assert reports(operator, user) == 1


async def test_only_the_identity_that_was_reported_is_approved(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    user = hospital.user_id(ward.people[0])
    operator, ann = await shift.nio("operator"), await shift.nio(ward.people[0])
    await ann.entrusted()
    await hospital.text("to the first identity", to=ward.number)
    await ann.message("to the first identity")
    await ann.replace_identity()
    await operator.wait_for(lambda: reports(operator, user) == 1)
    await ann.replace_identity()
    await operator.wait_for(lambda: reports(operator, user) == 2)
    alert = next(m for m in operator.messages if f"{user} has a new" in m.body)
    await operator.say(alert.room_id, f"approve {user}")
    await operator.message(f"{user} is trusted again")
    await operator.say(alert.room_id, f"approve {user}")
    await operator.message(f"No changed identity of {user} is waiting")
    await hospital.text("to the third identity", to=ward.number)
    await ann.message("to the third identity")
