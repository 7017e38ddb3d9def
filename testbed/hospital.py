"""A whole hospital on loopback: a Synapse, a bridge, the people of `config/`, and a call center."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from testbed.bridge import ROOT, Bridge
from testbed.callcenter import Answer, Sms
from testbed.clinician import Clinician
from testbed.clocked import MovedClock
from testbed.process import Progress, quiet
from testbed.synapse import Synapse

SERVER_NAME = "nightbell.test"
STAFF = ("okafor", "lindqvist", "moreau", "operator")
CARDIOLOGY_LINE = "+15550100100"  # the number that config/routing.yaml gives to cardiology


class Hospital:
    """Starts everything in order: registration, Synapse, accounts, the bot's identity, the bridge."""

    def __init__(
        self,
        directory: Path,
        *,
        config: Path = ROOT / "config",
        staff: tuple[str, ...] = STAFF,
        database_url: str | None = None,
        synapse_database_url: str | None = None,
        ports: tuple[int | None, int | None, int | None] = (None, None, None),
        environment: Mapping[str, str] | None = None,
        clock: datetime | None = None,
        progress: Progress = quiet,
    ) -> None:
        self.directory = directory
        self.staff = staff
        self._progress = progress
        registration = directory / "bridge" / "registration.yaml"
        self.synapse = Synapse(
            directory / "synapse",
            registrations=(registration,),
            server_name=SERVER_NAME,
            port=ports[0],
            database_url=synapse_database_url,
            progress=progress,
        )
        self.bridge = Bridge(
            directory / "bridge",
            self.synapse,
            config=config,
            database_url=database_url,
            port=ports[1],
            metrics_port=ports[2],
            environment=environment,
            clock=clock,
            progress=progress,
        )
        self._clients = AsyncExitStack()
        self.session: aiohttp.ClientSession

    async def open(self, *, bridge: bool = True) -> None:
        """Start the homeserver and, unless told not to, the bridge."""
        self._progress("registration and keys")
        await self.bridge.register()
        self._progress("Synapse")
        await self.synapse.start()
        self.session = await self._clients.enter_async_context(aiohttp.ClientSession())
        self._progress("accounts")
        for name in self.staff:
            await self.synapse.register_user(name, password(name))
        self._progress("the bot's identity")
        await self.bridge.make_identity()
        if bridge:
            self._progress("the bridge")
            await self.bridge.start()
            await self.bridge.until_bell_ready()

    async def close(self) -> None:
        """Stop everything."""
        await self._clients.aclose()
        await self.bridge.stop()
        await self.synapse.stop()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def now(self) -> datetime:
        """The time by the bridge's clock."""
        return self._clock()

    def travel(self, to: datetime | timedelta) -> None:
        """Move the bridge's clock to a moment, or by a length; its loops notice within seconds."""
        self._clock.move(to if isinstance(to, datetime) else self._clock() + to)

    @property
    def _clock(self) -> MovedClock:
        if self.bridge.clock is None:
            raise ValueError("this hospital lives at the machine's own time")
        return self.bridge.clock

    def user_id(self, name: str) -> str:
        return f"@{name}:{SERVER_NAME}"

    @property
    def bot(self) -> str:
        return self.user_id("nightbell")

    async def clinician(self, name: str, *, signed: bool = True, device: str = "phone") -> Clinician:
        """A person of the staff at their own encrypted client, until the hospital closes."""
        store = self.directory / "clients" / f"{name}-{device}"
        client = Clinician(self.synapse.base_url, self.user_id(name), password(name), store, signed=signed)
        return await self._clients.enter_async_context(client)

    async def text(self, body: str, *, to: str = CARDIOLOGY_LINE, **fields: str) -> Answer:
        """A patient's text to the hospital."""
        return await self.bridge.send_sms(self.session, Sms(body, to=to, **fields))

    async def event(self, document: Mapping[str, Any], webhook_id: str | None = None) -> Answer:
        """Another system's event."""
        return await self.bridge.send_event(self.session, document, webhook_id)


def password(name: str) -> str:
    """Test accounts on a loopback server, and nowhere else."""
    return f"{name}-demo-password"
