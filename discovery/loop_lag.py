"""How late the event loop is: for so long a question or a request waits before anything looks at it.

Owns one timer. A callback that holds the loop makes the timer late, and by how much is noted.
"""

from __future__ import annotations

import asyncio

from discovery.histogram import Histogram

LOOK_EVERY = 0.1  # seconds


class LoopLag:
    """`lag` is told, from `start` to `close`."""

    def __init__(self, lag: Histogram) -> None:
        self._lag = lag
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + LOOK_EVERY, self._look, loop.time() + LOOK_EVERY)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float) -> None:
        self._lag.note(max(0.0, asyncio.get_running_loop().time() - due))
        self.start()
