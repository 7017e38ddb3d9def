"""What is kept from one run to the next, and where a second terminal finds the running demo."""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOMESERVER_PORT = 8008
BRIDGE_PORT = 8470
METRICS_PORT = 9470


class DemoError(Exception):
    """The demo can't go on; the message is for whoever started it."""


@dataclass(frozen=True, slots=True)
class State:
    """A directory with the demo's keys, databases and logs."""

    directory: Path

    @property
    def bridge(self) -> Path:
        return self.directory / "bridge"

    @property
    def pbx(self) -> Path:
        """Holds the configuration with the exchange in it, and the exchange's mailbox."""
        return self.directory / "pbx"

    @property
    def recording(self) -> Path:
        """The voicemail as the clinician's client decrypted it."""
        return self.directory / "voicemail.ogg"

    @property
    def address(self) -> Path:
        """Holds the address of the running bridge."""
        return self.directory / "address"

    def read_address(self) -> str:
        """Where the running demo takes requests. Raises DemoError if there is none."""
        try:
            return self.address.read_text()
        except FileNotFoundError:
            raise DemoError("no demo is running; start it with: make demo") from None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep a second demo away from the same databases. Raises DemoError if one is running."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoError(
                    f"a demo is already running on {self.directory}; "
                    'send it a text with: .venv/bin/python -m demo text "..."'
                ) from None
            self.address.unlink(missing_ok=True)
            try:
                yield
            finally:
                self.address.unlink(missing_ok=True)


def if_free(port: int) -> int | None:
    """A port that people know by heart, unless something else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
    return port
