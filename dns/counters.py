"""What the DNS server counts: plain ints that the hot path adds to and `/metrics` reads.

Owns the names of the counters, and what an answer is counted as. It never renders, locks or resets them: they only
grow, in one process, from one event loop. What the hot path pays for a question is: one int for its transport, one for
its cache level, one item of `answers`, whose place is worked out when the answer is made, and a look whether it is one
of those whose time is taken (`Latency`); for a batch the first and the last are paid once.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.dns.busiest import Busiest
from discovery.histogram import Histogram

RCODES = 24
"""RFC 6895 section 2.3 assigns 0 to 23; a response with another rcode is not ours."""

TYPES = ("other", "A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "SVCB", "HTTPS", "ANY")
"""The types of question that are counted by themselves; all others, and what has no question, are the first."""

_PLACES = {
    number.to_bytes(2, "big"): place * RCODES
    for place, number in enumerate((1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255), start=1)
}

SAMPLE = 64  # questions of which the time of one is taken

# Seconds. From a hit, which takes microseconds, to what waits for other servers.
BOUNDS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
FORWARD_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def kind(question: bytes, rcode: int) -> int:
    """The place in `answers` of an answer to `question` (in wire form; b"": it had none)."""
    return _PLACES.get(question[-4:-2], 0) + rcode


class Latency(Histogram):
    """The time of one question in SAMPLE. `due`: take it when so many questions have come."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        super().__init__(BOUNDS)
        self.due = 1

    def take(self, seconds: float, asked: int) -> None:
        """`asked`: questions until now."""
        self.note(seconds)
        self.due = asked + SAMPLE


class DnsCounters:
    """`answers[kind(question, rcode)]` counts the answers made, the extended part of rcodes included (BADVERS is 16).

    A question is a hit of the raw cache, else of the prepared one, else a miss. `dropped` got no answer at all;
    `cut`: answers made from `dns.max_matched` services while more matched, or cut at 64 KiB over TCP; `failed`:
    SERVFAIL for an error of ours.
    `forwarded`, `forward_failed`: exchanges with other servers that brought an answer or none, `forward_latency` how
    long they took; `forward_hits`: answers of theirs that were kept.
    `not_permitted`: questions of clients that may not ask; `slipped`, `rate_limited`: answers over their network's rate
    that were sent cut, or not sent.
    `connections_refused`: connections beyond a limit.
    `malformed` are those that were answered FORMERR or could not be answered for being damaged.
    """

    __slots__ = (
        "answers",
        "busiest",
        "connections_refused",
        "cut",
        "dropped",
        "failed",
        "forward_failed",
        "forward_hits",
        "forward_latency",
        "forwarded",
        "hits_prepared",
        "hits_raw",
        "latency_tcp",
        "latency_tls",
        "latency_udp",
        "malformed",
        "misses",
        "not_permitted",
        "queries_tcp",
        "queries_tls",
        "queries_udp",
        "rate_limited",
        "slipped",
        "truncated",
    )

    def __init__(self) -> None:
        self.queries_udp = 0
        self.queries_tcp = 0
        self.queries_tls = 0
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
        self.answers = [0] * (RCODES * len(TYPES))
        self.latency_udp = Latency()
        self.latency_tcp = Latency()
        self.latency_tls = Latency()
        self.forward_latency = Histogram(FORWARD_BOUNDS)
        self.busiest = Busiest()

    @property
    def rcodes(self) -> list[int]:
        """The answers by rcode alone."""
        return [sum(self.answers[rcode::RCODES]) for rcode in range(RCODES)]

    def values(self) -> list[int]:
        """All of them, in an order of its own, for `add`."""
        found: list[int] = []
        for name in _SUMMED:
            value: int | list[int] | Histogram = getattr(self, name)
            if isinstance(value, Histogram):
                found += value.values()
            else:
                found += value if isinstance(value, list) else [value]
        return found

    def add(self, more: Sequence[int]) -> None:
        """Adds what another process has counted, in the order of `values`."""
        at = 0
        for name in _SUMMED:
            value: int | list[int] | Histogram = getattr(self, name)
            if isinstance(value, Histogram):
                size = len(value.counts) + 1
                value.add(more[at : at + size])
                at += size
            elif isinstance(value, list):
                for place in range(len(value)):
                    value[place] += more[at + place]
                at += len(value)
            else:
                setattr(self, name, value + more[at])
                at += 1


_SUMMED = tuple(name for name in DnsCounters.__slots__ if name != "busiest")
"""What `values` and `add` are about; samples of names go between processes by themselves."""
