"""Whether connections can be taken: a process has only so many open files.

asyncio waits a second when there is none left for a connection, and tries again; it says so to its loop alone.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from typing import Any

from prometheus_client import CollectorRegistry, Counter

ENOUGH = 65_536
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_open_files() -> None:
    """Allow as many open files as the system lets us: the lower bound is for programs that use select(2)."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if most == resource.RLIM_INFINITY else min(ENOUGH, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Accepting:
    """Hears of connections that could not be taken."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failed = Counter(
            "nightbell_accepts_failed",
            "Times that a connection could not be taken for want of open files or memory",
            registry=registry,
        )
        self._lately = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear of it from now on. Whatever else the loop reports goes where it went before."""
        before = loop.get_exception_handler()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if isinstance(error, OSError) and error.errno in SHORT and "socket" in context:
                self._failed.inc()
                self._lately = True
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)

    def failed_lately(self) -> bool:
        """Whether one could not be taken since this was last asked."""
        lately, self._lately = self._lately, False
        return lately
