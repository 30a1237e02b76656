"""What a node counts beside DNS: plain ints that their owners add to.

Owns the counters of the registry, the feed and the HTTP API (the DNS server's are `dns.counters`, the store's times its
own `durations`). It never locks, resets or renders them: `metrics_text` does that when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from discovery.dns.counters import DnsCounters
from discovery.histogram import Histogram

# Seconds. From a heartbeat, which is memory alone, to a write that waits for a quorum and the view.
HTTP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# Seconds. A timer of an idle loop is a fraction of a millisecond late.
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Tally(msgspec.Struct, frozen=True):
    """The DNS workers: how many are wanted and how many answer, how many were replaced since the start; memory, and
    seconds of the CPU, by number."""

    wanted: int
    serving: int
    replaced: int
    resident_bytes: Mapping[int, int]
    cpu_seconds: Mapping[int, float]


class Metrics:
    """The counters of one node. All begin at 0 and only grow.

    `http_requests` is by method and status, `http_durations` by method, `removals` by why an instance went.
    """

    def __init__(self) -> None:
        self.dns = DnsCounters()
        self.http_requests: dict[tuple[str, int], int] = {}
        self.http_durations: dict[str, Histogram] = {}
        self.loop_lag = Histogram(LAG_BOUNDS)
        self.http_rate_limited = 0
        self.http_connections_refused = 0
        self.registrations = 0
        self.registrations_unchanged = 0
        self.deregistrations = 0
        self.heartbeats = 0
        self.heartbeats_refused = 0
        self.removals = dict.fromkeys(("deregistered", "drained", "expired", "unknown"), 0)
        self.feed_batches = 0
        self.feed_loads = 0
        self.feed_reconnects = 0
        self.unreadable = 0

    def count_http(self, method: str, status: int) -> None:
        key = (method, status)
        self.http_requests[key] = self.http_requests.get(key, 0) + 1

    def time_http(self, method: str, seconds: float) -> None:
        """For a request that waits for nothing but its answer."""
        duration = self.http_durations.get(method)
        if duration is None:
            duration = self.http_durations[method] = Histogram(HTTP_BOUNDS)
        duration.note(seconds)

    def count_removal(self, reason: str | None) -> None:
        self.removals[reason or "unknown"] += 1
