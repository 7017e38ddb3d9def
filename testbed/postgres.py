"""A real PostgreSQL on loopback, from Debian's package."""

import asyncio
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import Process
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from testbed.process import Progress, ServerFailedError, end, free_port, launch, quiet, tail, until_ready

# PostgreSQL refuses to run as root.
SYSTEM_USER = "postgres" if os.geteuid() == 0 else None


class Postgres:
    """A database server whose data goes when the ``async with`` ends.

    Until then it can be stopped, killed and started again.
    """

    def __init__(self, *, progress: Progress = quiet) -> None:
        # Not below the caller's directory: pytest keeps those closed to other users.
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        self._progress = progress
        self._process: Process | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def data_path(self) -> Path:
        return self.directory / "data"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    async def start(self) -> None:
        log = self.directory / "postgres.log"
        if not self.data_path.exists():
            await self._initialise(log)
        self._process = await launch(
            (
                _program("postgres"),
                *("-D", self.data_path),
                *("-k", self.directory / "socket"),
                *("-c", "listen_addresses=127.0.0.1"),
                *("-c", f"port={self.port}"),
                # Killed, not cut from power: what it has written is in the system's cache.
                *("-c", "fsync=off"),
            ),
            log,
            user=SYSTEM_USER,
        )

        async def answers() -> bool:
            try:
                connection = await asyncpg.connect(self.url("postgres"), timeout=5)
            except (OSError, asyncpg.PostgresError):
                return False
            await connection.close()
            return True

        await until_ready("PostgreSQL", self._process, answers, log=log, progress=self._progress)

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Its SIGTERM would wait for every client to leave; SIGQUIT does not even write down what is in memory."""
        if self._process:
            await end(self._process, how)
            self._process = None

    async def kill(self) -> None:
        """As a power cut would."""
        if self._process:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def create_database(self, name: str, options: str = "") -> str:
        """An empty database; gives its url."""
        connection = await asyncpg.connect(self.url("postgres"), timeout=30)
        try:
            await connection.execute(f'CREATE DATABASE "{name}" {options}', timeout=30)
        finally:
            await connection.close(timeout=30)
        return self.url(name)

    async def _initialise(self, log: Path) -> None:
        (self.directory / "socket").mkdir()
        if SYSTEM_USER:
            for path in (self.directory, self.directory / "socket"):
                shutil.chown(path, SYSTEM_USER, SYSTEM_USER)
        self._progress("making a PostgreSQL cluster")
        initdb = await launch(
            (_program("initdb"), "-D", self.data_path, "--username=postgres", "--auth=trust", "--no-sync"),
            log,
            user=SYSTEM_USER,
        )
        if await asyncio.wait_for(initdb.wait(), 60) != 0:
            raise ServerFailedError(tail(log))


def _program(name: str) -> Path:
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
