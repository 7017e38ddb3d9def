"""Who comes into a crowded door, and who makes room."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bridge.channels.crowd import Crowd, source_of


@dataclass(eq=False)
class Someone:
    source: str | None
    since: float | None
    left: bool = False

    def make_room(self) -> None:
        self.left = True


def test_of_the_source_with_the_most_the_one_that_waits_longest_makes_room() -> None:
    crowd = Crowd(4, 4)
    honest = Someone("honest", 1.0)
    flood = [Someone("flood", float(number)) for number in (3, 2, 4)]
    assert all(crowd.admit(each) for each in (honest, *flood))
    newcomer = Someone("another", 5.0)
    assert crowd.admit(newcomer)
    assert [each.left for each in (honest, *flood)] == [False, False, True, False]
    assert len(crowd.here) == 4


def test_a_source_at_its_bound_makes_room_itself() -> None:
    crowd = Crowd(9, 2)
    first, second, other = Someone("a", 1.0), Someone("a", 2.0), Someone("b", 0.0)
    assert all(crowd.admit(each) for each in (first, second, other, Someone("a", 3.0)))
    assert [each.left for each in (first, second, other)] == [True, False, False]


def test_who_is_being_answered_stays_and_the_newcomer_has_to_come_again() -> None:
    crowd = Crowd(2, 1)
    busy = [Someone("a", None), Someone("b", None)]
    assert all(crowd.admit(each) for each in busy)
    assert not crowd.admit(Someone("a", 1.0))
    assert not crowd.admit(Someone("c", 1.0))
    assert not any(each.left for each in busy)
    crowd.leave(busy[0])
    assert crowd.admit(Someone("c", 1.0))


def test_a_proxy_has_no_bound_of_its_own_and_makes_room_for_nobody() -> None:
    crowd = Crowd(3, 1)
    proxy = [Someone(None, 0.0), Someone(None, 0.0)]
    other = Someone("a", 9.0)
    assert all(crowd.admit(each) for each in (*proxy, other, Someone("b", 10.0)))
    assert [each.left for each in (*proxy, other)] == [False, False, True]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_counts_for_the_host_that_has_it(address: str, source: str) -> None:
    assert source_of(address) == source
