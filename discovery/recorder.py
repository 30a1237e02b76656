"""Keeps the node's history going: a sample of its counters every ten seconds.

Owns the timer, and which counters are worth an hour's memory. What is done with the samples is `history`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from discovery.dns.counters import BOUNDS
from discovery.histogram import Histogram
from discovery.history import EVERY, History, Sample
from discovery.metrics import HTTP_BOUNDS, Metrics

SERIES = (
    "noerror",
    "nxdomain",
    "servfail",
    "refused",
    "other_rcodes",
    "cache_hits",
    "cache_misses",
    "forwarded",
    "changes",
    "registrations",
    "deregistrations",
    "expiries",
    "heartbeats",
    "http_requests",
    "http_errors",
)
_NOERROR, _SERVFAIL, _NXDOMAIN, _REFUSED = 0, 2, 3, 5

TIMES = {"dns": BOUNDS, "http": HTTP_BOUNDS}


def new_history() -> History:
    return History(SERIES, TIMES)


class Recorder:
    """`start` and `close` once each."""

    def __init__(self, metrics: Metrics, history: History, *, every: float = EVERY) -> None:
        self._metrics = metrics
        self._history = history
        self._every = every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            metrics = self._metrics
            self._history.add(Sample(time.time(), time.monotonic(), counts(metrics), times(metrics)))
            await asyncio.sleep(self._every)


def counts(metrics: Metrics) -> tuple[int, ...]:
    """In the order of SERIES."""
    dns = metrics.dns
    rcodes = dns.rcodes
    told = (rcodes[_NOERROR], rcodes[_NXDOMAIN], rcodes[_SERVFAIL], rcodes[_REFUSED])
    return (
        *told,
        sum(rcodes) - sum(told),
        dns.hits_raw + dns.hits_prepared,
        dns.misses,
        dns.forwarded + dns.forward_hits,
        metrics.feed_batches,
        metrics.registrations,
        metrics.deregistrations,
        metrics.removals["expired"],
        metrics.heartbeats,
        sum(metrics.http_requests.values()),
        sum(number for (_, status), number in metrics.http_requests.items() if status >= 500),
    )


def times(metrics: Metrics) -> tuple[tuple[int, ...], ...]:
    """In the order of TIMES: DNS of every transport, HTTP of every method."""
    dns = metrics.dns
    return (
        _added((dns.latency_udp, dns.latency_tcp, dns.latency_tls), BOUNDS),
        _added(metrics.http_durations.values(), HTTP_BOUNDS),
    )


def _added(histograms: Iterable[Histogram], bounds: Sequence[float]) -> tuple[int, ...]:
    total = Histogram(bounds)
    for histogram in histograms:
        total.add(histogram.values())
    return tuple(total.counts)
