"""Rates and quantiles between samples."""

from __future__ import annotations

import pytest

from discovery.history import History, Sample


def history(samples: int = 360) -> History:
    return History(("queries", "changes"), {"dns": (0.001, 0.01, 0.1)}, samples=samples)


def sample(clock: float, *counts: int, times: tuple[int, ...] = (0, 0, 0, 0)) -> Sample:
    return Sample(1_000.0 + clock, clock, counts, (times,))


def test_nothing_can_be_told_of_one_sample() -> None:
    one = history()
    one.add(sample(0.0, 5, 5))
    assert (one.ends(), one.rates()) == ([], {"queries": [], "changes": []})


def test_rates_are_over_the_time_that_passed() -> None:
    made = history()
    for each in (sample(0, 100, 0), sample(10, 200, 5), sample(30, 300, 5), sample(30, 299, 6)):
        made.add(each)
    assert made.ends() == [1010.0, 1030.0, 1030.0]
    assert made.rates() == {"queries": [10.0, 5.0, 0.0], "changes": [0.5, 0.0, 1000.0]}


def test_the_oldest_are_forgotten() -> None:
    made = history(samples=3)
    for number in range(10):
        made.add(sample(number, number * number, 0))
    assert made.ends() == [1007.0, 1008.0, 1009.0]
    assert made.rates()["queries"] == [13.0, 15.0, 17.0]


@pytest.mark.parametrize(
    ("numbers", "half", "most"),
    [
        ((0, 0, 0, 0), None, None),
        ((100, 0, 0, 0), 0.0005, 0.00099),
        ((50, 50, 0, 0), 0.001, 0.00982),
        ((0, 0, 0, 7), 0.1, 0.1),
        ((0, 98, 1, 1), 0.001 + 0.009 * 50 / 98, 0.1),
    ],
)
def test_quantiles_lie_evenly_in_their_bucket(
    numbers: tuple[int, ...], half: float | None, most: float | None
) -> None:
    made = history()
    made.add(sample(0, 0, 0, times=(1, 2, 3, 4)))
    made.add(sample(1, 0, 0, times=tuple(a + b for a, b in zip((1, 2, 3, 4), numbers, strict=True))))
    assert made.quantile("dns", 0.5) == [pytest.approx(half) if half is not None else None]
    assert made.quantile("dns", 0.99) == [pytest.approx(most) if most is not None else None]
