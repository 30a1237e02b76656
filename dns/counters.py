"""What the DNS server counts: plain ints that the hot path adds to and `/metrics` reads.

Owns the names of the counters. It never renders, locks or resets them: they only grow, in one process, from one
event loop. Latency is not among them: it is sampled elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

RCODES = 24
"""RFC 6895 section 2.3 assigns 0 to 23; a response with another rcode is not ours."""


class DnsCounters:
    """`rcodes[n]` counts the answers made with rcode n, the extended part included (BADVERS is 16).

    A question is a hit of the raw cache, else of the prepared one, else a miss. `dropped` got no answer at all;
    `cut`: answers made from `dns.max_matched` services while more matched, or cut at 64 KiB over TCP; `failed`:
    SERVFAIL for an error of ours.
    `forwarded`, `forward_failed`: exchanges with other servers that brought an answer or none;
    `forward_hits`: answers of theirs that were kept.
    `not_permitted`: questions of clients that may not ask; `slipped`, `rate_limited`: answers over their network's rate
    that were sent cut, or not sent.
    `connections_refused`: connections beyond a limit.
    `malformed` are those that were answered FORMERR or could not be answered for being damaged.
    """

    __slots__ = (
        "connections_refused",
        "cut",
        "dropped",
        "failed",
        "forward_failed",
        "forward_hits",
        "forwarded",
        "hits_prepared",
        "hits_raw",
        "malformed",
        "misses",
        "not_permitted",
        "queries_tcp",
        "queries_udp",
        "rate_limited",
        "rcodes",
        "slipped",
        "truncated",
    )

    def __init__(self) -> None:
        self.queries_udp = 0
        self.queries_tcp = 0
        self.hits_raw = 0
        self.hits_prepared = 0
        self.misses = 0
        self.truncated = 0
        self.cut = 0
        self.dropped = 0
        self.failed = 0
        self.forward_failed = 0
        self.forward_hits = 0
        self.forwarded = 0
        self.malformed = 0
        self.not_permitted = 0
        self.connections_refused = 0
        self.slipped = 0
        self.rate_limited = 0
        self.rcodes = [0] * RCODES

    def values(self) -> list[int]:
        """All of them, in an order of its own, for `add`."""
        found: list[int] = []
        for name in self.__slots__:
            value: int | list[int] = getattr(self, name)
            found += value if isinstance(value, list) else [value]
        return found

    def add(self, more: Sequence[int]) -> None:
        """Adds what another process has counted, in the order of `values`."""
        at = 0
        for name in self.__slots__:
            value: int | list[int] = getattr(self, name)
            if isinstance(value, list):
                for place in range(len(value)):
                    value[place] += more[at + place]
                at += len(value)
            else:
                setattr(self, name, value + more[at])
                at += 1
