"""Voicemail in a spool directory as Asterisk left it: the right message, whatever number it has by now."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.channels import asterisk_spool
from bridge.channels.asterisk_spool import Message, Spool
from bridge.model.attachment import Attachment
from bridge.model.doors import Fetched
from bridge.model.errors import MediaError
from bridge.model.phi import Phi

CAPTURES = Path(__file__).parent / "captures" / "asterisk" / "voicemail_spool"
LEFT = Message("100@default", "msg0001", 1795492908, "+15550001111")
SPEECH = (CAPTURES / "msg0001.WAV").read_bytes()


@pytest.fixture
def inbox_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "default" / "100" / "INBOX"
    shutil.copytree(CAPTURES, folder)
    return folder


async def fetched(spool: Path, message: Message = LEFT) -> Fetched:
    return await Spool(spool).media(remove=False).fetch(message.attachment())


async def deleted(spool: Path, place: Phi[str] | None) -> None:
    remove = Spool(spool).media(remove=True).remove
    assert remove is not None
    await remove(Attachment(place=place))


def later(folder: Path, stem: str, origtime: int, caller: str = "+15550001111") -> None:
    """Another message in the mailbox."""
    facts = (folder / "msg0001.txt").read_text().replace("origtime=1795492909", f"origtime={origtime}")
    (folder / f"{stem}.txt").write_text(
        facts.replace("+15550001111", caller).replace("-00000001", f"-{stem}")
    )
    (folder / f"{stem}.WAV").write_bytes(stem.encode())


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_a_message_is_found_by_its_call(tmp_path: Path, inbox_folder: Path) -> None:
    found = await fetched(tmp_path)
    assert (found.content, found.type) == (Phi(SPEECH), "audio/x-wav")


async def test_it_is_found_after_it_was_numbered_anew_and_moved(tmp_path: Path, inbox_folder: Path) -> None:
    old = inbox_folder.parent / "Old"
    old.mkdir()
    for ending in ("txt", "WAV"):
        (inbox_folder / f"msg0001.{ending}").rename(old / f"msg0007.{ending}")
    assert (await fetched(tmp_path)).content == Phi(SPEECH)


async def test_of_a_callers_messages_it_is_the_one_of_the_call(tmp_path: Path, inbox_folder: Path) -> None:
    later(inbox_folder, "msg0002", 1795492999)
    for ending in ("txt", "WAV"):
        (inbox_folder / f"msg0001.{ending}").rename(inbox_folder / f"msg0003.{ending}")
    assert (await fetched(tmp_path)).content == Phi(SPEECH)
    assert (await fetched(tmp_path, replace(LEFT, since=1795492950, file="msg0003"))).content == Phi(
        b"msg0002"
    )


async def test_rather_none_than_another_callers(tmp_path: Path, inbox_folder: Path) -> None:
    for message in (replace(LEFT, caller="+15550009999"), replace(LEFT, caller="", file="msg0005")):
        with pytest.raises(MediaError, match="no message of this call") as missing:
            await fetched(tmp_path, message)
        assert missing.value.retry
    assert (await fetched(tmp_path, replace(LEFT, caller=""))).content == Phi(SPEECH)


async def test_a_withheld_callers_message_is_known_by_its_channel(tmp_path: Path, inbox_folder: Path) -> None:
    withheld = replace(LEFT, caller="", file="")
    with pytest.raises(MediaError, match="no message of this call"):
        await fetched(tmp_path, withheld)
    later(inbox_folder, "msg0002", 1795492908)
    (inbox_folder / "msg0002.txt").write_text(
        (inbox_folder / "msg0002.txt").read_text().replace("callerchan=", "callerchan=another/")
    )
    by = replace(withheld, channel="Local/720@inbound-00000006;2")
    assert (await fetched(tmp_path, by)).content == Phi(SPEECH)


async def test_the_newest_are_those_that_came_last_and_that_nobody_has_heard(
    tmp_path: Path, inbox_folder: Path
) -> None:
    later(inbox_folder, "msg0002", 1795492000, caller="")  # forwarded: its own moment is an older one
    urgent, old = inbox_folder.parent / "Urgent", inbox_folder.parent / "Old"
    for folder, stem, origtime in ((urgent, "msg0000", 1795492901), (old, "msg0000", 1795492999)):
        folder.mkdir()
        shutil.copy(inbox_folder / "msg0001.txt", folder)
        (folder / "msg0001.txt").rename(folder / f"{stem}.txt")
        text = (folder / f"{stem}.txt").read_text().replace("origtime=1795492909", f"origtime={origtime}")
        (folder / f"{stem}.txt").write_text(text.replace('"Maria Lopez" <+15550001111>', "Unknown"))
    files = (inbox_folder / "msg0001.txt", urgent / "msg0000.txt", inbox_folder / "msg0002.txt")
    for at, file in enumerate((inbox_folder / "msg0000.txt", *files), start=1795492900):
        os.utime(file, (at, at))
    found = await Spool(tmp_path).newest("100@default", 3)
    assert [(each.message.since, each.caller) for each in found] == [
        (1795492909, "+15550001111"),
        (1795492901, ""),
        (1795492000, ""),
    ]
    assert (await fetched(tmp_path, found[2].message)).content == Phi(b"msg0002")
    assert await Spool(tmp_path).newest("999@default", 3) == []
    assert await Spool(tmp_path).newest("../100", 3) == []


async def test_it_is_deleted_with_all_its_files_and_no_later_one(tmp_path: Path, inbox_folder: Path) -> None:
    (inbox_folder / "msg0001.gsm").write_bytes(b"gsm")
    found = await fetched(tmp_path)
    later(inbox_folder, "msg0002", 1795492999)
    for _ in range(2):
        await deleted(tmp_path, found.place)
    assert files_in(inbox_folder) == ["msg0000.WAV", "msg0000.txt", "msg0002.WAV", "msg0002.txt"]


async def test_what_was_never_found_is_not_deleted(tmp_path: Path, inbox_folder: Path) -> None:
    with pytest.raises(MediaError, match="not known which file"):
        await deleted(tmp_path, LEFT.attachment().place)


@pytest.mark.parametrize("mailbox", ["../../etc@default", "100@../../etc", "100", "@", ".@."])
async def test_a_mailbox_leads_nowhere_else(tmp_path: Path, inbox_folder: Path, mailbox: str) -> None:
    with pytest.raises(MediaError, match="no name of a directory"):
        await fetched(tmp_path, replace(LEFT, mailbox=mailbox))


async def test_a_mailbox_that_is_not_there_and_one_that_may_not_be_read_are_told_apart(
    tmp_path: Path, inbox_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MediaError, match="no such mailbox in the spool directory: check spool"):
        await fetched(tmp_path / "elsewhere")

    def denied(_: Path) -> Iterator[Path]:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", denied)  # tests may run as root, who may read everything
    with pytest.raises(MediaError, match=r"can't be read \(PermissionError\)"):
        await fetched(tmp_path)


async def test_one_that_is_too_large_is_given_up(
    tmp_path: Path, inbox_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk_spool, "MAX_MEDIA", 10)
    with pytest.raises(MediaError, match="larger than 10 bytes"):
        await fetched(tmp_path)


async def test_a_directory_that_does_not_answer_is_given_up_and_asked_again_later(
    tmp_path: Path, inbox_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a server that is away: whoever opens a pipe that nobody writes to waits for ever."""
    for seconds in ("FETCH_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(asterisk_spool, seconds, 0.05)
    stuck = inbox_folder / "msg0000.txt"
    stuck.unlink()
    os.mkfifo(stuck)
    spool, before = Spool(tmp_path), threading.active_count()
    try:
        for _ in range(5):
            with pytest.raises(MediaError, match="does not answer") as away:
                await spool.media(remove=False).fetch(LEFT.attachment())
            assert away.value.retry
        assert not await spool.is_empty(LEFT)
        # Others' work goes on meanwhile.
        assert threading.active_count() <= before + 2
    finally:
        os.close(os.open(stuck, os.O_RDWR | os.O_NONBLOCK))
        stuck.unlink()
        spool.threads.shutdown()
