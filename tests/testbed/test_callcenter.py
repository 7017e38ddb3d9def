import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

from testbed.callcenter import Answer, Sms, send_event, send_sms, until_accepted
from testbed.process import free_port

TOKEN = "12345678901234567890123456789012"
SECRET = "whsec_bmlnaHRiZWxsLW5pZ2h0YmVsbC1uaWdodA=="


@dataclass
class Door:
    """Takes anything, and keeps what came."""

    url: str
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[web.Request, bytes]] = field(default_factory=list)

    async def open(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, text="ok")


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    port = free_port()
    door = Door(f"http://127.0.0.1:{port}/in?tenant=clinic")
    app = web.Application()
    app.router.add_post("/in", door.open)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield door
    await runner.cleanup()


async def test_an_sms_carries_twilios_signature(door: Door) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await send_sms(session, door.url, Sms("call me back ☎"), auth_token=TOKEN)
    assert answer == Answer(200, "ok")
    request, _ = door.requests[0]
    form = dict(await request.post())
    assert form["Body"] == "call me back ☎"
    assert RequestValidator(TOKEN).validate(door.url, form, request.headers["X-Twilio-Signature"])


async def test_an_event_carries_a_standard_webhooks_signature(door: Door) -> None:
    async with aiohttp.ClientSession() as session:
        await send_event(session, door.url, {"kind": "missed_call"}, secret=SECRET, webhook_id="msg_1")
    request, body = door.requests[0]
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert Webhook(SECRET).verify(body, headers) == json.loads(body) == {"kind": "missed_call"}
    assert headers["webhook-id"] == "msg_1"


async def test_a_retry_is_the_same_event_until_it_is_accepted(door: Door) -> None:
    door.statuses = [503, 500]
    sms = Sms("again", sid="SM1")
    async with aiohttp.ClientSession() as session:
        answer = await until_accepted(lambda: send_sms(session, door.url, sms, auth_token=TOKEN))
    assert answer.accepted
    bodies = {body for _, body in door.requests}
    assert (len(door.requests), len(bodies)) == (3, 1)


async def test_a_bridge_that_never_comes_up_is_reported() -> None:
    url = f"http://127.0.0.1:{free_port()}/in"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError, match="not accepted"):
            await until_accepted(lambda: send_sms(session, url, Sms("x"), auth_token=TOKEN), timeout=0.1)
