"""When the next heartbeat is due."""

from __future__ import annotations

import pytest

from discovery.client.pace import next_beat, next_try, patience


@pytest.mark.parametrize(
    ("every", "share", "seconds"),
    [(10, 1, 10), (10, 0, 8), (0.3, 1, 0.3), (0, 1, 60), (-1, 1, 60), (None, 1, 60)],
)
def test_never_later_than_asked_and_never_without_pause(
    every: float | None, share: float, seconds: float
) -> None:
    assert next_beat(every, share) == pytest.approx(seconds)


@pytest.mark.parametrize(("every", "seconds"), [(10, 5), (5, 2.5), (0.33, 0.5), (600, 5), (None, 2.5)])
def test_a_hung_node_leaves_time_for_another(every: float | None, seconds: float) -> None:
    assert patience(every) == seconds


@pytest.mark.parametrize(
    ("every", "retry_after", "longest"),
    [(10, None, 1), (0.3, None, 0.3), (10, 4, 4), (10, 60, 10), (10, 0, 1), (None, 7, 7)],
)
def test_a_node_that_says_when_is_heard_but_not_past_the_heartbeat(
    every: float | None, retry_after: float | None, longest: float
) -> None:
    assert next_try(every, 1, retry_after) == longest
    assert next_try(every, 0, retry_after) == longest / 2
