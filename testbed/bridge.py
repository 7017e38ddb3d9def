"""The bridge as its operator runs it: the `nightbell` command, in processes of its own, on loopback."""

import asyncio
import base64
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from testbed.callcenter import Answer, Sms, send_event, send_sms
from testbed.clocked import MovedClock
from testbed.process import Progress, end, free_port, launch, quiet, until_ready
from testbed.synapse import Synapse

ROOT = Path(__file__).resolve().parent.parent
NIGHTBELL = Path(sys.executable).with_name("nightbell")
TIMEOUT = aiohttp.ClientTimeout(total=5)


class CommandFailedError(Exception):
    """A `nightbell` command ended with an error; its output says which."""


class Bridge:
    """One bridge with its secrets and rows in a directory, on a configuration that it shares with others.

    With `clock` it lives at another time than the machine, and the test moves it.
    """

    def __init__(
        self,
        directory: Path,
        synapse: Synapse,
        *,
        config: Path = ROOT / "config",
        database_url: str | None = None,
        port: int | None = None,
        metrics_port: int | None = None,
        environment: Mapping[str, str] | None = None,
        clock: datetime | None = None,
        progress: Progress = quiet,
    ) -> None:
        self.directory = directory
        self.config = config
        self.port = port or free_port()
        self.metrics_port = metrics_port or free_port()
        self.log_path = directory / "bridge.log"
        self._synapse = synapse
        self._progress = progress
        self._process: Process | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.clock: MovedClock | None = None
        self._run: tuple[str | Path, ...] = (NIGHTBELL, "run", "--config", config)
        if clock is not None:
            file = directory / "clock"
            self.clock = MovedClock(file)
            self.clock.move(clock)
            self._run = (sys.executable, "-m", "testbed.clocked", config, file)
        self.database_url = database_url or f"sqlite:///{directory / 'nightbell.db'}"
        self.twilio_token = self._secret("twilio_auth_token", lambda: secrets.token_hex(16))
        self.webhook_secret = self._secret("webhook_secret", _webhook_secret)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),  # for the clock of testbed
            "NIGHTBELL_HOMESERVER_URL": synapse.base_url,
            "NIGHTBELL_SERVER_NAME": synapse.server_name,
            "NIGHTBELL_REGISTRATION": str(self.registration),
            "NIGHTBELL_DATABASE_URL": self.database_url,
            "NIGHTBELL_OPERATOR_KEY_FILE": str(directory / "operator_key"),
            "NIGHTBELL_TWILIO_AUTH_TOKEN_FILE": str(directory / "twilio_auth_token"),
            "NIGHTBELL_WEBHOOK_SECRET_FILE": str(directory / "webhook_secret"),
            "NIGHTBELL_PORT": str(self.port),
            "NIGHTBELL_METRICS_PORT": str(self.metrics_port),
            "NIGHTBELL_PUBLIC_URL": self.base_url,
            **(environment or {}),
        }

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def registration(self) -> Path:
        return self.directory / "registration.yaml"

    @property
    def recovery_key(self) -> Path:
        return self.directory / "recovery_key"

    @property
    def pid(self) -> int | None:
        """The process to measure or kill; None while the bridge is down."""
        return self._process.pid if self._process else None

    async def register(self) -> None:
        """Write the operator's key and the registration, which Synapse reads when it starts."""
        self._secret("operator_key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())
        if not self.registration.exists():
            await self.command("registration")

    async def make_identity(self) -> None:
        """What an operator does once, after Synapse has started."""
        if not self.recovery_key.exists():
            await self.command("identity", "create", "--recovery-key-file", str(self.recovery_key))

    async def command(self, *words: str, given: bytes = b"", configured: bool = True) -> str:
        """Run a command to its end and give what it printed. Raises CommandFailedError."""
        config = ("--config", str(self.config)) if configured else ()
        process = await asyncio.create_subprocess_exec(
            NIGHTBELL,
            *words,
            *config,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=self.environment,
        )
        output, _ = await asyncio.wait_for(process.communicate(given), 180)
        if process.returncode:
            message = f"nightbell {' '.join(words)} ended with {process.returncode}:\n{output.decode()}"
            raise CommandFailedError(message)
        return output.decode()

    async def start(self) -> None:
        """Run it, and wait until it takes events; the homeserver may be away."""
        self._process = await launch(self._run, self.log_path, environment=self.environment)

        async def answers() -> bool:
            return await self.health() is not None

        await until_ready("the bridge", self._process, answers, log=self.log_path, progress=self._progress)

    async def until_bell_ready(self) -> None:
        """Wait until the bridge has taken up its device and delivers."""
        process = self._process
        if process is None:
            raise CommandFailedError("the bridge has not been started")

        async def well() -> bool:
            health = await self.health()
            return health is not None and health["parts"].get("deliver") == "well"

        await until_ready("the bridge's device", process, well, log=self.log_path, progress=self._progress)

    def signal(self, number: signal.Signals) -> None:
        """What `kill -HUP` does."""
        if self._process:
            self._process.send_signal(number)

    async def health(self) -> dict[str, Any] | None:
        """What `/health` says; None while nobody answers."""
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.get(f"{self.base_url}/health") as response,
            ):
                document: dict[str, Any] = await response.json()
                return document
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def stop(self) -> None:
        if self._process:
            await end(self._process)
            self._process = None

    async def kill(self) -> None:
        """As a power cut would."""
        if self._process:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def send_sms(self, session: aiohttp.ClientSession, sms: Sms) -> Answer:
        return await send_sms(
            session, f"{self.base_url}/intake/clinic-sms", sms, auth_token=self.twilio_token
        )

    async def send_event(
        self, session: aiohttp.ClientSession, event: Mapping[str, Any], webhook_id: str | None = None
    ) -> Answer:
        url = f"{self.base_url}/intake/events"
        return await send_event(session, url, event, secret=self.webhook_secret, webhook_id=webhook_id)

    def _secret(self, name: str, fresh: Any) -> str:
        file = self.directory / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(fresh())
        return file.read_text()


def _webhook_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
