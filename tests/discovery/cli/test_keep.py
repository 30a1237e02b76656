"""How often a kept instance beats; what it does besides is in test_services, in a real process."""

from __future__ import annotations

import pytest

from discovery.cli.keep import RETRY, pause_after


@pytest.mark.parametrize(
    ("every", "seconds"), [(10, 10), (0.3, 0.3), (0, RETRY), (-1, RETRY), (None, RETRY), ("5", RETRY)]
)
def test_the_node_says_how_often_but_never_without_pause(every: object, seconds: float) -> None:
    assert pause_after({"heartbeat_every": every}) == seconds


def test_a_node_that_says_nothing() -> None:
    assert pause_after({}) == RETRY
