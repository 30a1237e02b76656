"""The order of RFC 2782, counted over many draws and walked through by hand."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from discovery.client.order import Endpoint, in_order


def endpoint(priority: int, weight: int, target: str = "a.") -> Endpoint:
    return Endpoint(target, 80, priority, weight)


@given(st.lists(st.builds(endpoint, st.integers(0, 3), st.sampled_from([0, 0, 1, 10, 65535]))), st.integers())
def test_every_one_comes_once_and_priorities_ascend(endpoints: list[Endpoint], seed: int) -> None:
    draw = random.Random(seed)
    ordered = in_order(endpoints, lambda most: draw.randint(0, most))
    assert Counter(ordered) == Counter(endpoints)
    assert [each.priority for each in ordered] == sorted(each.priority for each in endpoints)


def test_the_running_sum_that_reaches_the_mark_is_first() -> None:
    a, b, c = endpoint(1, 1, "a."), endpoint(1, 2, "b."), endpoint(1, 3, "c.")
    first = [in_order([a, b, c], lambda most, mark=mark: mark if most == 6 else 0)[0] for mark in range(7)]  # type: ignore[misc]
    assert first == [a, a, b, b, c, c, c]


def test_weight_0_is_first_only_when_the_mark_is_0() -> None:
    heavy, light = endpoint(1, 100, "a."), endpoint(1, 0, "b.")
    assert in_order([heavy, light], lambda _: 0)[0] == light
    assert in_order([heavy, light], lambda most: min(1, most))[0] == heavy


def test_shares_are_those_of_the_weights(rng: random.Random) -> None:
    endpoints = [endpoint(1, 10, "a."), endpoint(1, 30, "b."), endpoint(1, 0, "c.")]
    first = Counter(in_order(endpoints, lambda most: rng.randint(0, most))[0].target for _ in range(4000))
    assert 0.7 < first["b."] / 4000 < 0.8
    assert 0 < first["c."] < 4000 * 0.05


def test_weights_of_0_alone_share_alike(rng: random.Random) -> None:
    endpoints = [endpoint(1, 0, target) for target in "abc"]
    first = Counter(in_order(endpoints, lambda most: rng.randint(0, most))[0].target for _ in range(3000))
    assert all(800 < count < 1200 for count in first.values())
