"""How much history is kept."""

from __future__ import annotations

from discovery.kv.compaction import EVERY, History


def test_what_is_old_enough_may_go() -> None:
    history = History(keep_seconds=300, keep_revisions=1_000_000)
    assert history.mark(0, 10)
    assert history.mark(100, 20)
    assert history.target(299, 50) < 10
    assert history.target(300, 50) == 10
    assert history.target(399, 50) == 10
    assert history.target(10_000, 50) == 20
    assert history.target(20_000, 50) == 20


def test_what_is_beyond_the_count_may_go() -> None:
    history = History(keep_seconds=300, keep_revisions=1_000)
    assert history.target(0, 500) <= 0
    assert history.target(0, 1_500) == 500


def test_marks_keep_their_distance() -> None:
    history = History(keep_seconds=300, keep_revisions=1_000)
    assert history.mark(0, 1)
    assert not history.mark(EVERY - 0.1, 2)
    assert history.mark(EVERY, 3)
