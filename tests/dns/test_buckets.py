"""Token buckets: how they fill, and what is forgotten."""

from __future__ import annotations

from discovery.dns.buckets import Buckets


def test_a_bucket_holds_one_second_and_at_least_one() -> None:
    buckets = Buckets()
    bucket = buckets.filled(b"a", 4, 1.0)
    assert bucket.left == 4
    bucket.left = 0
    assert buckets.filled(b"a", 4, 1.5).left == 2
    assert buckets.filled(b"a", 4, 60.0).left == 4
    assert buckets.filled(b"b", 0.5, 60.0).left == 1


def test_what_is_not_full_is_remembered_and_what_is_full_forgotten() -> None:
    buckets = Buckets()
    buckets.filled(b"a", 4, 1.0).left = 0
    buckets.filled(b"b", 4, 2.0)  # the halves change
    assert buckets.filled(b"a", 4, 2.0).left == 4
    buckets.filled(b"a", 4, 2.5).left = 0
    assert buckets.filled(b"a", 4, 3.25).left == 3
    buckets.filled(b"c", 4, 4.25)
    buckets.filled(b"c", 4, 5.25)
    assert len(buckets) == 1


def test_beyond_the_bound_the_older_half_is_forgotten() -> None:
    buckets = Buckets(max_buckets=10)
    for number in range(100):
        buckets.filled(bytes((number,)), 1, 0.0)
        assert len(buckets) <= 20
