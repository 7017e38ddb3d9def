import asyncio
from pathlib import Path

import pytest

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.synapse import Synapse


async def people(synapse: Synapse, *names: str) -> list[str]:
    return [await synapse.register_user(name, "pw") for name in names]


async def test_nio_and_element_understand_each_other_without_a_shield(
    synapse: Synapse, tmp_path: Path
) -> None:
    nora, eli = await people(synapse, "nora", "eli")
    async with (
        Clinician(synapse.base_url, nora, "pw", tmp_path / "nora") as nio,
        Element(synapse.base_url, eli, "pw", log=tmp_path / "eli.log") as element,
    ):
        room = await nio.create_room(eli)
        await element.meet(nora)
        question = await nio.say(room, "Who has bed 4?")

        read = await element.message("Who has bed 4?")
        assert (read.event_id, read.encrypted, read.shield) == (question, True, "none")

        await element.mark_read(question)
        await element.react(question, "✅")
        await element.say(room, "I have", in_reply_to=question)
        reaction = await nio.wait_for(lambda: next(iter(nio.reactions), None))
        assert (reaction.sender, reaction.target, reaction.key) == (eli, question, "✅")
        answer = await nio.message("I have")
        assert answer.content["m.relates_to"] == {"m.in_reply_to": {"event_id": question}}


async def test_both_show_the_latest_edit_and_drop_what_was_redacted(synapse: Synapse, tmp_path: Path) -> None:
    ines, theo = await people(synapse, "ines", "theo")
    async with (
        Clinician(synapse.base_url, ines, "pw", tmp_path / "ines") as nio,
        Element(synapse.base_url, theo, "pw", log=tmp_path / "theo.log") as element,
    ):
        room = await nio.create_room(theo)
        await element.meet(ines)
        first = await nio.say(room, "open")
        await nio.edit(first, "accepted")
        assert (await element.message("accepted")).edited
        assert (await nio.message("accepted")).edits == 1

        await nio.client.room_redact(room, first)
        await element.wait_for(lambda: element.events[first].redacted)
        await nio.wait_for(lambda: first in nio.redacted)
        assert (element.messages, nio.messages) == ([], [])


async def test_only_signed_mode_shows_nothing_of_an_unsigned_device(synapse: Synapse, tmp_path: Path) -> None:
    una, sid, ada = await people(synapse, "una", "sid", "ada")
    async with (
        Clinician(synapse.base_url, una, "pw", tmp_path / "una", signed=False) as nio,
        Element(synapse.base_url, sid, "pw", log=tmp_path / "sid.log") as strict,
        Element(synapse.base_url, ada, "pw", log=tmp_path / "ada.log", only_signed=False) as lenient,
    ):
        room = await nio.create_room(sid, ada)
        await lenient.meet(sid)
        await nio.say(room, "hello")

        shown = await lenient.message("hello")
        assert (shown.shield, shown.shield_reason) == ("red", "UNSIGNED_DEVICE")
        await strict.wait_for(lambda: strict.undecryptable)
        assert strict.undecryptable[0].failure in {"UNSIGNED_SENDER_DEVICE", "UNKNOWN_SENDER_DEVICE"}

        await strict.meet(ada)
        await strict.say(room, "can you read this?")
        await lenient.message("can you read this?")
        await nio.wait_for(lambda: nio.undecryptable)


async def test_a_second_run_is_the_same_device_and_identity(synapse: Synapse, tmp_path: Path) -> None:
    olga, pia = await people(synapse, "olga", "pia")
    async with Clinician(synapse.base_url, pia, "pw", tmp_path / "pia") as friend:
        async with Clinician(synapse.base_url, olga, "pw", tmp_path / "olga") as first:
            room = await first.create_room(pia)
            await friend.say(room, "before")
            await first.message("before")
        await friend.say(room, "meanwhile")
        async with Clinician(synapse.base_url, olga, "pw", tmp_path / "olga") as second:
            assert second.device_id == first.device_id
            await second.message("meanwhile")
            assert [message.body for message in second.messages] == ["before", "meanwhile"]


async def test_a_replaced_identity_is_seen(synapse: Synapse, tmp_path: Path) -> None:
    mia, ben = await people(synapse, "mia", "ben")
    async with (
        Clinician(synapse.base_url, mia, "pw", tmp_path / "mia") as nio,
        Element(synapse.base_url, ben, "pw", log=tmp_path / "ben.log") as element,
    ):
        await nio.create_room(ben)
        await element.meet(mia)
        assert not await element.identity_changed(mia)
        await nio.replace_identity()
        async with asyncio.timeout(30):
            while not await element.identity_changed(mia):
                await asyncio.sleep(0.05)


async def test_waiting_for_a_client_that_has_ended_fails_at_once(synapse: Synapse, tmp_path: Path) -> None:
    (zoe,) = await people(synapse, "zoe")
    client = Clinician(synapse.base_url, zoe, "pw", tmp_path / "zoe")
    async with client:
        pass
    with pytest.raises(RuntimeError, match="listens no more"):
        await client.wait_for(lambda: client.messages)
