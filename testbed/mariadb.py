"""A real MariaDB on loopback, from Debian's package: what FreePBX keeps its call records in."""

import asyncio
import os
import shutil
import tempfile
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiomysql
from pymysql import MySQLError

from testbed.process import Progress, ServerFailedError, end, free_port, launch, quiet, tail, until_ready

# It refuses to run as root unless it is told to.
AS_USER = ("--user=root",) if os.geteuid() == 0 else ()


class MariaDb:
    """A database server. Its data goes when the ``async with`` ends."""

    def __init__(self, *options: str, progress: Progress = quiet) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.port = free_port()
        self._options = options
        self._progress = progress
        self._process: Process | None = None

    def url(self, database: str, user: str = "root") -> str:
        return f"mysql://{user}@127.0.0.1:{self.port}/{database}"

    async def __aenter__(self) -> Self:
        await self._initialise()
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            await end(self._process)
        shutil.rmtree(self.directory)

    async def run(self, *statements: str) -> None:
        """Execute statements as its administrator."""
        await self._execute(statements)

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """What it answers to a statement."""
        return list(await self._execute((statement,)))

    async def _execute(self, statements: Sequence[str]) -> Any:
        connection = await self._connect()
        try:
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
                answer = await cursor.fetchall()
            await connection.commit()
        finally:
            connection.close()
        return answer

    async def _connect(self) -> Any:
        return await aiomysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=5)

    async def _initialise(self) -> None:
        log = self.directory / "install.log"
        self._progress("making a MariaDB data directory")
        process = await launch(
            (
                "/usr/bin/mariadb-install-db",
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--datadir={self.directory / 'data'}",
                *AS_USER,
            ),
            log,
        )
        if await asyncio.wait_for(process.wait(), 120) != 0:
            raise ServerFailedError(tail(log))

    async def _start(self) -> None:
        log = self.directory / "mariadb.log"
        self._process = await launch(
            (
                "/usr/sbin/mariadbd",
                "--no-defaults",
                f"--datadir={self.directory / 'data'}",
                f"--socket={self.directory / 'socket'}",
                f"--pid-file={self.directory / 'pid'}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                *AS_USER,
                *self._options,
            ),
            log,
        )

        async def answers() -> bool:
            try:
                connection = await self._connect()
            except (OSError, MySQLError):
                return False
            connection.close()
            return True

        await until_ready("MariaDB", self._process, answers, log=log, progress=self._progress)
