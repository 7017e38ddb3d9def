"""Kinds of settings that several channels have, and the checks that go with them."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated

from pydantic import AfterValidator, Field, IPvAnyNetwork

from bridge.channels.numbers import known_region
from bridge.config.values import SecretRef, one_or_more

Secrets = Annotated[tuple[SecretRef, ...], one_or_more, Field(min_length=1)]
Region = Annotated[str, AfterValidator(known_region)]


def _own_number(written: str) -> str:
    # One that is written otherwise would be compared with nothing, and nothing would be missing.
    if not re.fullmatch(r"(?:[a-z]+:)?\+[1-9][0-9]{6,14}|[0-9]{3,8}", written):
        raise ValueError("should be a number in E.164, such as +15554567890, or a short code")
    return written


OwnNumbers = Annotated[tuple[Annotated[str, AfterValidator(_own_number)], ...], one_or_more]
Peers = Annotated[tuple[IPvAnyNetwork, ...], one_or_more]


def is_one_of(secrets: Iterable[str], given: str) -> bool:
    """Tell whether it is one of the secrets, in constant time for each."""
    sent = given.encode(errors="surrogateescape")
    return any(hmac.compare_digest(secret.encode(), sent) for secret in secrets)


def is_peer(address: str, peers: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Tell whether an address lies in one of the networks; an IPv4 address may be written as IPv6."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in peers)
