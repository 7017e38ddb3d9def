"""How many may be at a door at once, so that neither thousands of the silent nor one of the slow keep others out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol


class Guest(Protocol):
    """A connection. `since` is the moment from which it keeps the door waiting; None while the door keeps it."""

    @property
    def source(self) -> str | None:
        """Whom it counts for at the moment; None for a proxy, who speaks for many."""

    @property
    def since(self) -> float | None: ...

    def make_room(self) -> None:
        """Close, telling why if nothing was answered yet."""


@dataclass(slots=True)
class Crowd:
    """The connections of one door: at most `most`, and at most `of_one` of a source."""

    most: int
    of_one: int
    here: dict[Guest, None] = field(default_factory=dict)

    def admit(self, guest: Guest) -> bool:
        """Let one in. At a bound whoever keeps the door waiting goes, of the source with the most of these.

        False if nobody does: then all are being answered, and the newcomer has to come again.
        """
        source = guest.source
        own = [] if source is None else [each for each in self.here if each.source == source]
        if len(own) >= self.of_one:
            leaves = _longest_waiting(own)
        elif len(self.here) >= self.most:
            leaves = _longest_waiting(self.here)
        else:
            self.here[guest] = None
            return True
        if leaves is None:
            return False
        self.leave(leaves)
        leaves.make_room()
        self.here[guest] = None
        return True

    def leave(self, guest: Guest) -> None:
        """It is gone."""
        self.here.pop(guest, None)


def _longest_waiting(guests: Iterable[Guest]) -> Guest | None:
    waiting = [
        (source, since, each)
        for each in guests
        if (since := each.since) is not None and (source := each.source) is not None
    ]
    counts = Counter(source for source, _, _ in waiting)
    found = max(waiting, key=lambda each: (counts[each[0]], -each[1]), default=None)
    return found[2] if found is not None else None


def turn_away(transport: asyncio.BaseTransport, said: bytes) -> None:
    """Say why, and close. Whatever still comes is not looked at."""
    transport.set_protocol(asyncio.Protocol())
    if isinstance(transport, asyncio.WriteTransport):
        transport.write(said)
    transport.close()


def source_of(address: str) -> str:
    """Whom an address counts for: itself, or its /64, of which one host has all addresses of IPv6."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
