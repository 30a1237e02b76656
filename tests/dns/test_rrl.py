"""Response rate limiting: what a network is sent, by kind, and what is remembered."""

from __future__ import annotations

import random
import socket
from collections import Counter

import pytest

from discovery.dns.rrl import RateLimit, Rates, Verdict

ANSWER = bytes((0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0))
NODATA = bytes((0, 1, 0x84, 0, 0, 1, 0, 0, 0, 1, 0, 0))
NXDOMAIN = bytes((0, 1, 0x84, 3, 0, 1, 0, 0, 0, 1, 0, 0))
REFUSED = bytes((0, 1, 0x80, 5, 0, 1, 0, 0, 0, 0, 0, 0))
CUT = bytes((0, 1, 0x86, 0, 0, 1, 0, 0, 0, 0, 0, 0))
SEND = Verdict.SEND


def packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def verdicts(limit: RateLimit, count: int, answer: bytes, client: str, now: float) -> Counter[Verdict]:
    return Counter(limit.judge(answer, packed(client), now) for _ in range(count))


def test_over_the_rate_every_second_answer_is_cut_and_the_others_are_dropped() -> None:
    limit = RateLimit(Rates(answers=10))
    assert verdicts(limit, 10, ANSWER, "192.0.2.1", 0.0) == {SEND: 10}
    assert verdicts(limit, 20, ANSWER, "192.0.2.1", 0.0) == {Verdict.DROP: 10, Verdict.CUT: 10}
    assert verdicts(limit, 20, ANSWER, "192.0.2.1", 0.5)[SEND] == 5
    assert verdicts(limit, 20, ANSWER, "192.0.2.1", 9.0)[SEND] == 10


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.255", "192.0.3.1"),
        ("2001:db8:0:1::1", "2001:db8:0:ff::2", "2001:db8:0:100::1"),
        ("192.0.2.1", "::ffff:192.0.2.9", "::ffff:192.0.4.9"),
    ],
)
def test_networks_are_24_and_56_bits_wide(first: str, same: str, other: str) -> None:
    limit = RateLimit(Rates(answers=3))
    verdicts(limit, 3, ANSWER, first, 0.0)
    assert verdicts(limit, 2, ANSWER, same, 0.0)[SEND] == 0
    assert verdicts(limit, 3, ANSWER, other, 0.0) == {SEND: 3}


def test_each_kind_has_a_rate_of_its_own_and_none_without_one() -> None:
    limit = RateLimit(Rates(answers=1, negatives=2))
    assert verdicts(limit, 5, NXDOMAIN, "192.0.2.1", 0.0)[SEND] == 2
    assert verdicts(limit, 5, NODATA, "192.0.2.1", 0.0)[SEND] == 0
    assert verdicts(limit, 5, ANSWER, "192.0.2.1", 0.0)[SEND] == 1
    assert verdicts(limit, 5, CUT, "192.0.2.1", 0.0)[SEND] == 0
    assert verdicts(limit, 50, REFUSED, "192.0.2.1", 0.0) == {SEND: 50}


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_exempt(client: str) -> None:
    assert verdicts(RateLimit(Rates(1, 1, 1)), 50, ANSWER, client, 0.0) == {SEND: 50}


def test_off_is_off() -> None:
    assert RateLimit(Rates()).is_off
    assert not RateLimit(Rates(errors=1)).is_off


def test_memory_is_bounded_under_a_flood_of_forged_networks() -> None:
    limit = RateLimit(Rates(answers=5), max_networks=1000)
    for number in range(50_000):
        limit.judge(ANSWER, number.to_bytes(3, "big") + b"\1", number / 100_000)
        assert limit.networks <= 2000
    for second in (10.0, 11.0, 12.0):
        limit.judge(ANSWER, packed("192.0.2.1"), second)
    assert limit.networks == 1


def test_in_any_span_no_network_gets_more_than_a_burst_and_its_rate(rng: random.Random) -> None:
    """A model: whatever the times, in T seconds at most rate * T + rate answers are sent."""
    rate = 20
    limit = RateLimit(Rates(answers=rate))
    now = 0.0
    sent: list[float] = []
    for _ in range(5000):
        now += rng.choice((0.0, 0.001, 0.01, 0.2, 1.5))
        if limit.judge(ANSWER, packed("192.0.2.1"), now) is SEND:
            sent.append(now)
    for first in range(0, len(sent), 7):
        for last in range(first, min(first + 200, len(sent))):
            assert last - first + 1 <= rate * (sent[last] - sent[first]) + rate + 1e-6
