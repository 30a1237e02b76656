"""Buckets, sums, and the sum of two histograms."""

from __future__ import annotations

from discovery.histogram import Histogram

BOUNDS = (0.001, 0.01)


def test_a_bound_belongs_to_its_bucket_and_what_is_above_all_has_its_own() -> None:
    histogram = Histogram(BOUNDS)
    for seconds in (0.0, 0.001, 0.0011, 0.01, 3.0):
        histogram.note(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.seconds == 3.0121


def test_two_are_added() -> None:
    one, other = Histogram(BOUNDS), Histogram(BOUNDS)
    one.note(0.5)
    other.note(0.25)
    other.note(0.0005)
    one.add(other.values())
    assert (one.counts, one.seconds) == ([1, 0, 2], 0.7505)
