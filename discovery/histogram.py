"""How long things take, counted in buckets of time: plain ints, which only grow.

Owns the counting, and what it says of quantiles: it reads no clock and renders nothing. One thread adds to a histogram;
any may read it. Sums are whole nanoseconds, so that histograms of other processes can be added without loss.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

NANOSECOND = 1_000_000_000


class Histogram:
    """`bounds`: the buckets' upper bounds in seconds, ascending; above the last is one more."""

    __slots__ = ("bounds", "counts", "nanoseconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.nanoseconds = 0

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.nanoseconds += int(seconds * NANOSECOND)

    @property
    def seconds(self) -> float:
        """The sum of all that was noted."""
        return self.nanoseconds / NANOSECOND

    def values(self) -> list[int]:
        """All of it, for `add`."""
        return [*self.counts, self.nanoseconds]

    def add(self, more: Sequence[int]) -> None:
        """Adds what another histogram of the same bounds has counted."""
        for place in range(len(self.counts)):
            self.counts[place] += more[place]
        self.nanoseconds += more[len(self.counts)]


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Seconds that so large a share took at most, of buckets as a histogram's; None: nothing was counted.

    Within a bucket they are taken to lie evenly, as Prometheus's histogram_quantile does; beyond the last bound, that
    bound.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank, seen, low = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= rank:
            return low + (bound - low) * (rank - seen) / count
        seen += count
        low = bound
    return low
