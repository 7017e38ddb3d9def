"""What nobody could read is not sent: the page climbs at once, and is delivered when somebody can read it."""

from testbed.hospital import Hospital
from testbed.shift import Shift
from testbed.wards import Ward


async def test_a_page_that_nobody_can_read_climbs_at_once_and_is_delivered_when_somebody_can(
    hospital: Hospital, shift: Shift, ward: Ward
) -> None:
    operator = await shift.nio("operator")
    unsigned = await shift.nio(ward.people[0], signed=False)
    await hospital.text("for nobody yet", to=ward.number)
    # The ladder's own first step would come in an hour.
    await operator.message(f"{ward.name}: a page is not accepted")
    await operator.wait_for(
        lambda: any(ward.name in m.body and "not_signed_by_its_owner" in m.body for m in operator.messages)
    )
    assert (unsigned.messages, unsigned.undecryptable) == ([], [])

    colleague = await shift.nio(ward.people[1])
    await colleague.message("for nobody yet")
    assert not [message for message in unsigned.messages if "for nobody yet" in message.body]
