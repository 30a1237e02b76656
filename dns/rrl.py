"""Response rate limiting: what a network may be sent in answers, so that nobody is flooded in its name.

Owns the count of answers to each client network (/24, /56) by kind, and what happens to one over the limit. Pure: the
time is an argument. It reads an answer's header and nothing else. How: a bucket (`buckets`) for each network and kind;
of the answers over it every SLIP-th is sent cut, so that a client of that network that really asks comes back over TCP,
which cannot be forged.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from discovery.dns.buckets import MAX_BUCKETS, Buckets
from discovery.dns.clients import is_loopback, network_of

SLIP = 2  # as BIND, Knot and NSD have it


class Rates(msgspec.Struct, frozen=True):
    """Answers a second to one network; 0: not limited."""

    answers: float = 0.0  # with records
    negatives: float = 0.0  # NXDOMAIN, and NOERROR without records
    errors: float = 0.0  # every other response code


class Verdict(Enum):
    SEND = "send"
    CUT = "cut"
    DROP = "drop"


class RateLimit:
    def __init__(self, rates: Rates, *, max_networks: int = MAX_BUCKETS) -> None:
        self._rates = (rates.answers, rates.negatives, rates.errors)
        self._buckets = Buckets(max_buckets=max_networks)

    @property
    def is_off(self) -> bool:
        return not any(self._rates)

    @property
    def networks(self) -> int:
        """Buckets held now."""
        return len(self._buckets)

    def judge(self, answer: bytes, client: bytes, now: float) -> Verdict:
        """What to do with an answer to the client's address (4 or 16 bytes) at `now`, in seconds that only grow."""
        kind = kind_of(answer)
        rate = self._rates[kind]
        if not rate or is_loopback(client):
            return Verdict.SEND
        bucket = self._buckets.filled(network_of(client) + b"anx"[kind : kind + 1], rate, now)
        if bucket.left >= 1.0:
            bucket.left -= 1.0
            return Verdict.SEND
        bucket.over += 1
        return Verdict.DROP if bucket.over % SLIP else Verdict.CUT


def kind_of(answer: bytes) -> int:
    """0: records, 1: a negative answer, 2: an error."""
    rcode = answer[3] & 15
    if rcode == 3:
        return 1
    if rcode:
        return 2
    return 0 if answer[6:8] != b"\0\0" or answer[2] & 2 else 1
