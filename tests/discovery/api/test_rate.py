"""How often a client may call: what is one client, what it may do in a second, and what is remembered."""

from __future__ import annotations

import pytest

from discovery.api.rate import RequestRate, client_of, packed


def permitted(rate: RequestRate, calls: int, client: str, now: float) -> int:
    return sum(rate.permits(client_of(packed(client)), now) for _ in range(calls))


def test_a_client_has_a_burst_of_one_second_and_then_its_rate() -> None:
    rate = RequestRate(10)
    assert permitted(rate, 30, "192.0.2.1", 5.0) == 10
    assert permitted(rate, 30, "192.0.2.1", 5.5) == 5
    assert permitted(rate, 30, "192.0.2.1", 99.0) == 10


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("fe80::1%eth0", "fe80::2", "fe80:0:0:1::1"),
    ],
)
def test_a_client_is_an_address_or_64_bits_of_it(first: str, same: str, other: str) -> None:
    rate = RequestRate(3)
    assert permitted(rate, 3, first, 0.0) == 3
    assert permitted(rate, 3, same, 0.0) == 0
    assert permitted(rate, 3, other, 0.0) == 3


def test_no_rate_is_no_limit_and_remembers_nobody() -> None:
    rate = RequestRate(0)
    assert permitted(rate, 1000, "192.0.2.1", 0.0) == 1000
    assert len(rate) == 0


def test_memory_is_bounded_under_a_flood_of_clients() -> None:
    rate = RequestRate(5, max_clients=1000)
    for number in range(20_000):
        rate.permits(number.to_bytes(8, "big"), number / 100_000)
        assert len(rate) <= 2000
