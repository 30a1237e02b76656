"""Time that only moves when a test says so."""

from __future__ import annotations


class FakeClock:
    """Stands in for `time.monotonic`: call it for the time in seconds."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class TickingClock:
    """Goes on by `tick` seconds whenever it is looked at, so that what is done till a time is counted."""

    def __init__(self, tick: float) -> None:
        self.now = 1_000.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now
