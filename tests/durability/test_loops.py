"""Bells that are never missed, and loops that always end."""

from __future__ import annotations

import asyncio

import pytest

from bridge.engine.loop import Wake, run_loop
from bridge.model.errors import StoreUnavailableError


def unheard(_loop: str, _error: BaseException | None) -> None:
    pass


async def test_a_bell_that_rings_before_anybody_listens_is_heard() -> None:
    wake = Wake()
    wake.ring()
    async with asyncio.timeout(30):
        await wake.wait(3600)


async def test_a_bell_that_is_rung_during_a_step_makes_the_loop_step_again() -> None:
    wake, steps, twice = Wake(), 0, asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        await asyncio.sleep(0)
        if steps == 1:
            wake.ring()
        else:
            twice.set()

    loop = asyncio.create_task(run_loop("test", wake, step, unheard))
    async with asyncio.timeout(3):  # sooner than the slow poll
        await twice.wait()
    loop.cancel()


async def test_a_listener_that_is_cancelled_as_the_bell_rings_ends() -> None:
    wake = Wake()
    listening = asyncio.create_task(wake.wait(3600))
    await asyncio.sleep(0.01)
    wake.ring()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), ZeroDivisionError()])
async def test_a_step_that_fails_is_told_of_and_made_again(error: Exception) -> None:
    heard: list[str] = []
    again = asyncio.Event()

    async def step() -> None:
        if not heard:
            raise error
        again.set()

    def beat(_loop: str, failure: BaseException | None) -> None:
        heard.append(type(failure).__name__)

    loop = asyncio.create_task(run_loop("test", Wake(), step, beat))
    async with asyncio.timeout(30):
        await again.wait()
    loop.cancel()
    assert heard[0] == type(error).__name__
