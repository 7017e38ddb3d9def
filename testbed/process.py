"""Servers that live as long as the test or the demo that started them, and never longer."""

import asyncio
import secrets
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

Progress = Callable[[str], None]

PORTS = range(15_000, 32_000)  # below those that Linux gives by itself: ip_local_port_range in ip(7)


class ServerFailedError(Exception):
    """A server ended, or did not answer in time; the end of its log says why."""


def quiet(_message: str) -> None:
    """Nobody watches."""


def free_port() -> int:
    """A port that nobody has, and that the system gives to no outgoing connection until a server has taken it."""
    while True:
        port = secrets.choice(PORTS)  # hypothesis would give `random` the same seed in each process
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def launch(
    command: Sequence[str | Path],
    log: Path,
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a server that ends when its parent dies, even of SIGKILL, but not at a Ctrl-C."""
    identity = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            "setpriv",
            *identity,
            "--pdeathsig=TERM",
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )


async def until_ready(
    name: str,
    process: Process,
    is_ready: Callable[[], Awaitable[bool]],
    *,
    log: Path,
    progress: Progress,
    timeout: float = 120,
) -> None:
    """Wait for a server's first answer, telling once a second for how long already."""
    started = time.monotonic()
    told = 0
    while not await is_ready():
        elapsed = time.monotonic() - started
        if process.returncode is not None or elapsed > timeout:
            await end(process)
            message = f"{name} is not up after {elapsed:.0f} s:\n{tail(log)}"
            raise ServerFailedError(message)
        if int(elapsed) > told:
            told = int(elapsed)
            progress(f"waiting for {name}, {told} s")
        await asyncio.sleep(0.03)


async def end(process: Process, how: signal.Signals = signal.SIGTERM, *, timeout: float = 30) -> None:
    """Ask it to end; insist after the timeout."""
    if process.returncode is not None:
        return
    process.send_signal(how)
    try:
        await asyncio.wait_for(process.wait(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
