"""The node's last hour: a ring of samples of its counters, and the rates and latencies between them.

Owns what is sampled and how long it is kept, so that whoever opens the page sees the hour before. Pure: the counters
and the time come as arguments. It never asks anything and knows no clock: `recorder` drives it.
A sample holds counters as they stood; what is told are differences over the time that truly passed, so a late
sample is no dent, and a counter that fell (nothing does) would be no spike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from discovery.histogram import quantile

EVERY = 10.0  # seconds between two samples
SAMPLES = 360  # an hour


class Sample(msgspec.Struct, frozen=True, gc=False):
    """`at`: seconds since the epoch. `clock`: of a monotonic clock. `counts` by series, only growing.
    `times`: by histogram, how many took at most `bounds[n]`, and not `bounds[n - 1]`; the last: longer than all."""

    at: float
    clock: float
    counts: tuple[int, ...]
    times: tuple[tuple[int, ...], ...] = ()


class History:
    """`names` are the series of every sample's `counts`; `bounds` those of its `times`, in seconds, ascending, by the
    histogram's name."""

    def __init__(
        self, names: Sequence[str], bounds: Mapping[str, Sequence[float]], *, samples: int = SAMPLES
    ) -> None:
        self.names = tuple(names)
        self.bounds = bounds
        self._ring: deque[Sample] = deque(maxlen=samples + 1)  # n spaces have n + 1 ends

    def add(self, sample: Sample) -> None:
        self._ring.append(sample)

    def ends(self) -> list[float]:
        """When each space ends."""
        return [later.at for _, later in self._spaces()]

    def rates(self) -> Mapping[str, list[float]]:
        """A second, by series, of every space between two samples, the oldest first."""
        found: dict[str, list[float]] = {name: [] for name in self.names}
        for before, after in self._spaces():
            seconds = max(after.clock - before.clock, 1e-3)
            for name, old, new in zip(self.names, before.counts, after.counts, strict=True):
                found[name].append(round(max(0, new - old) / seconds, 3))
        return found

    def quantile(self, histogram: str, share: float) -> list[float | None]:
        """`histogram.quantile` of every space between two samples."""
        place, bounds = list(self.bounds).index(histogram), self.bounds[histogram]
        return [
            quantile(
                share, bounds, [new - old for old, new in zip(a.times[place], b.times[place], strict=True)]
            )
            for a, b in self._spaces()
        ]

    def _spaces(self) -> Iterator[tuple[Sample, Sample]]:
        return pairwise(self._ring)
