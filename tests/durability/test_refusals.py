"""What a homeserver's refusal means: wait, or give the one request up."""

from __future__ import annotations

import json

import pytest
from mautrix.api import Method

from bridge.matrix.homeserver import connect, path
from bridge.model.errors import HomeserverError
from bridge.model.ids import UserId
from testbed.process import free_port
from testbed.proxy import Passed, Proxy, Refusal

CIPHERTEXT = json.dumps({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"})


async def refused(refusal: Refusal) -> HomeserverError:
    """What the bridge makes of a refusal."""

    async def refuse(_request: Passed) -> Refusal:
        return refusal

    async with Proxy("http://127.0.0.1:1") as door:
        door.before = refuse
        async with connect(
            door.base_url, "token", UserId("@bot:test"), timeout=30, concurrency=1
        ) as homeserver:
            with pytest.raises(HomeserverError) as raised:
                await homeserver.request(
                    Method.PUT, path("rooms", "!room", "send", "m.room.encrypted", "1"), CIPHERTEXT
                )
    return raised.value


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(500, "M_UNKNOWN"),
        Refusal(502),
        Refusal(503, "M_UNKNOWN"),
        Refusal(429, "M_LIMIT_EXCEEDED"),
        Refusal(429),
        Refusal(404),  # a proxy that sends it to the wrong place
        Refusal(403),  # a firewall
        Refusal(404, "M_UNRECOGNIZED"),  # a worker that does not serve this
        Refusal(401, "M_UNKNOWN_TOKEN"),  # a homeserver that was started without our registration
        Refusal(401, "M_MISSING_TOKEN"),
    ],
    ids=str,
)
async def test_a_homeserver_that_is_not_itself_is_waited_for(refusal: Refusal) -> None:
    assert (await refused(refusal)).retry


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(403, "M_FORBIDDEN"),
        Refusal(413, "M_TOO_LARGE"),
        Refusal(413),
        Refusal(400, "M_BAD_JSON"),
        Refusal(404, "M_NOT_FOUND"),
    ],
    ids=str,
)
async def test_a_request_that_is_refused_for_itself_is_not_made_again(refusal: Refusal) -> None:
    error = await refused(refusal)
    assert (error.retry, error.code) == (False, refusal.code)


async def test_a_homeserver_that_is_not_there_is_waited_for() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with connect(url, "token", UserId("@bot:test"), timeout=30, concurrency=1) as homeserver:
        with pytest.raises(HomeserverError) as raised:
            await homeserver.request(Method.GET, path("joined_rooms"))
    assert raised.value.retry


async def test_what_a_homeserver_says_of_a_request_is_not_repeated() -> None:
    assert "html" not in str(await refused(Refusal(502)))
