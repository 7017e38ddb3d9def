"""Group commit: what comes together is committed together, and everybody learns what became of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from bridge.store.group_commit import GroupCommit


class BrokenDiskError(Exception):
    """The disk does not take it."""


class Disk:
    """Commits numbers, one group at a time, when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def commit(self, items: Sequence[int]) -> list[str]:
        await self.free.wait()
        if 13 in items:
            raise BrokenDiskError
        self.groups.append(list(items))
        return [f"kept {item}" for item in items]


async def test_what_comes_during_a_commit_is_committed_together_by_the_next() -> None:
    disk = Disk()
    commits = GroupCommit(disk.commit)
    disk.free.clear()
    adding = [asyncio.create_task(commits.add(item)) for item in range(5)]
    await asyncio.sleep(0)
    later = [asyncio.create_task(commits.add(item)) for item in range(5, 8)]
    await asyncio.sleep(0)
    disk.free.set()
    assert await asyncio.gather(*adding, *later) == [f"kept {item}" for item in range(8)]
    assert len(disk.groups) <= 3
    assert [item for group in disk.groups for item in group] == list(range(8))


async def test_a_commit_that_fails_is_told_to_everybody_in_it_and_to_nobody_else() -> None:
    disk = Disk()
    commits = GroupCommit(disk.commit)
    with pytest.raises(BrokenDiskError):
        await commits.add(13)
    assert await commits.add(1) == "kept 1"


async def test_who_gives_up_waiting_keeps_nobody_else_from_being_committed() -> None:
    disk = Disk()
    commits = GroupCommit(disk.commit)
    disk.free.clear()
    first = asyncio.create_task(commits.add(1))
    await asyncio.sleep(0)
    second = asyncio.create_task(commits.add(2))
    await asyncio.sleep(0)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    disk.free.set()
    assert await second == "kept 2"
