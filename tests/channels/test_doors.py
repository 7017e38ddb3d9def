"""A door that can't be opened is told, tried again, and keeps no other from being open."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing, suppress
from socket import socket

import pytest

from bridge.channels import doors
from bridge.channels.doors import keep_open
from bridge.model.ids import ChannelId
from testbed.process import free_port
from tests.channels.test_http import half_open
from tests.channels.wire import SMTP, SNPP, RememberingInbox, listening, opened, reachable
from tests.channels.wires import TALKS


@pytest.mark.parametrize("section", [SNPP, SMTP], ids=["snpp", "smtp"])
async def test_an_address_that_is_taken_is_tried_again_until_it_is_free(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    monkeypatch.setattr(doors, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(doors, "LONGEST_PAUSE", 0.02)
    told: list[str | None] = []
    port = free_port()

    async def tell(_: ChannelId, trouble: str | None) -> None:
        told.append(trouble)

    async def shut(trouble: str) -> None:
        told.append(trouble)

    channel = opened(section.replace("PORT", str(port)), inbox, tell=tell)
    assert channel.serve is not None
    with closing(socket()) as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        serving = asyncio.ensure_future(keep_open(channel.serve, shut))
        async with asyncio.timeout(5):
            while len(told) < 3:
                await asyncio.sleep(0.01)
        assert all("address already in use" in str(trouble) for trouble in told)
    await reachable(port)
    assert told[-1] is None
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("name", ["snpp", "smtp"])
async def test_through_hundreds_of_silent_connections_a_page_comes_in(
    name: str, inbox: RememberingInbox
) -> None:
    """From eight peers, several times as many as the door holds."""
    section = TALKS[name].section.replace("127.0.0.1", "127.0.0.0/8", 1)
    async with listening(section, inbox) as port, AsyncExitStack() as crowd:
        for number in range(300):
            await crowd.enter_async_context(half_open(port, f"127.0.0.{2 + number % 8}", b"HE"))
        await asyncio.wait_for(TALKS[name].say(port, "heard", "+15550001111"), 10)
    assert [event.body.reveal().strip() for event in inbox.events] == ["heard"]
