"""Kinds of settings that several channels have."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.channels.settings import is_one_of, is_peer

PEERS = [ip_network("10.1.2.0/24"), ip_network("2001:db8::/32"), ip_network("fe80::/10")]


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("fe80::1%eth0", True),
        ("10.1.3.1", False),
        ("::ffff:10.1.3.1", False),
        ("2001:db9::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_a_peer_is_an_address_in_one_of_the_networks(address: str, *, known: bool) -> None:
    assert is_peer(address, PEERS) == known


@given(st.text())
def test_no_text_breaks_the_look_at_a_peer(address: str) -> None:
    assert is_peer(address, PEERS) in (True, False)


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.text(st.characters(codec="utf-8")))
def test_a_secret_is_known_exactly_if_it_is_one_of_them(secrets: list[str], given_one: str) -> None:
    assert is_one_of(secrets, given_one) == (given_one in secrets)
