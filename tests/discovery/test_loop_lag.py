"""A loop that is held is seen to be late."""

from __future__ import annotations

import asyncio
import time

from discovery.histogram import Histogram
from discovery.loop_lag import LOOK_EVERY, LoopLag
from discovery.metrics import LAG_BOUNDS
from tests.support.api import until

HELD = 0.06  # seconds


async def test_what_holds_the_loop_is_noted() -> None:
    lag = Histogram(LAG_BOUNDS)
    watch = LoopLag(lag)
    watch.start()
    try:
        time.sleep(LOOK_EVERY + HELD)  # noqa: ASYNC251  # which holds the loop
        await until(lambda: sum(lag.counts) > 0)
    finally:
        watch.close()
    assert lag.seconds >= HELD * 0.9
    await asyncio.sleep(0)
    assert sum(lag.counts) == 1
