"""Many small writes, few transactions.

What comes while a commit is under way is committed together by the next one. A burst then costs a handful of
transactions, and still nobody is told that something is durable before it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.model import in_hand

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    in_hand: frozenset[str]
    result: asyncio.Future[Result]


class GroupCommit(Generic[Item, Result]):
    """Gives items that come at about the same time to `commit` together; it returns a result for each, in order.

    `commit` must bear being given an item twice: one whose commit was cancelled half-way is given again.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._commit = commit
        self._waiting: list[_Waiting[Item, Result]] = []
        self._turn = asyncio.Lock()

    async def add(self, item: Item) -> Result:
        """Commit an item, alone or with others. Raises what `commit` raised for them."""
        waiting: _Waiting[Item, Result] = _Waiting(
            item, in_hand.held(), asyncio.get_running_loop().create_future()
        )
        self._waiting.append(waiting)
        try:
            async with self._turn:
                if not waiting.result.done():
                    await self._commit_all()
            return await waiting.result
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def _commit_all(self) -> None:
        together = list(self._waiting)
        try:
            with in_hand.hold_all(waiting.in_hand for waiting in together):
                results = await self._commit([waiting.item for waiting in together])
        except Exception as error:  # noqa: BLE001 - each of them raises it for itself
            for waiting in together:
                if not waiting.result.done():
                    waiting.result.set_exception(error)
        else:
            for waiting, result in zip(together, results, strict=True):
                if not waiting.result.done():
                    waiting.result.set_result(result)
        self._waiting = [waiting for waiting in self._waiting if not waiting.result.done()]
