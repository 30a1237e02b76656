"""Response rate limiting: what a network may be sent in answers, so that nobody is flooded in its name.

Owns the count of answers to each client network (/24, /56) by kind, and what happens to one over the limit. Pure: the
time is an argument. Bounded: a network that has not been heard of for a second has its full allowance and is
forgotten; beyond MAX_NETWORKS the older half is forgotten earlier. It reads an answer's header and nothing else.
How: a bucket of `rate` answers that fills at `rate` a second; of the answers over it every SLIP-th is sent cut, so
that a client of that network that really asks comes back over TCP, which cannot be forged.
"""

from __future__ import annotations

from enum import Enum

import msgspec

MAX_NETWORKS = 100_000  # in each of two halves; about 150 bytes each
SLIP = 2  # as BIND, Knot and NSD have it
FORGET = 1.0  # seconds after which a bucket is full again, whatever the rate


class Rates(msgspec.Struct, frozen=True):
    """Answers a second to one network; 0: not limited."""

    answers: float = 0.0  # with records
    negatives: float = 0.0  # NXDOMAIN, and NOERROR without records
    errors: float = 0.0  # every other response code


class Verdict(Enum):
    SEND = "send"
    CUT = "cut"
    DROP = "drop"


class _Bucket:
    __slots__ = ("at", "left", "over")

    def __init__(self, left: float, now: float) -> None:
        self.left = left
        self.at = now
        self.over = 0  # answers over the limit


class RateLimit:
    def __init__(self, rates: Rates, *, max_networks: int = MAX_NETWORKS) -> None:
        self._rates = (rates.answers, rates.negatives, rates.errors)
        self._max = max_networks
        self._recent: dict[bytes, _Bucket] = {}
        self._older: dict[bytes, _Bucket] = {}
        self._turned = 0.0

    @property
    def is_off(self) -> bool:
        return not any(self._rates)

    @property
    def networks(self) -> int:
        """Buckets held now."""
        return len(self._recent) + len(self._older)

    def judge(self, answer: bytes, client: bytes, now: float) -> Verdict:
        """What to do with an answer to the client's address (4 or 16 bytes) at `now`, in seconds that only grow."""
        kind = kind_of(answer)
        rate = self._rates[kind]
        if not rate or is_loopback(client):
            return Verdict.SEND
        bucket = self._bucket(network_of(client) + b"anx"[kind : kind + 1], rate, now)
        bucket.left = min(max(1.0, rate), bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.left >= 1.0:
            bucket.left -= 1.0
            return Verdict.SEND
        bucket.over += 1
        return Verdict.DROP if bucket.over % SLIP else Verdict.CUT

    def _bucket(self, key: bytes, rate: float, now: float) -> _Bucket:
        if now - self._turned >= FORGET or len(self._recent) >= self._max:
            self._recent, self._older, self._turned = {}, self._recent, now
        bucket = self._recent.get(key)
        if bucket is None:
            bucket = self._older.pop(key, None) or _Bucket(max(1.0, rate), now)
            self._recent[key] = bucket
        return bucket


def kind_of(answer: bytes) -> int:
    """0: records, 1: a negative answer, 2: an error."""
    rcode = answer[3] & 15
    if rcode == 3:
        return 1
    if rcode:
        return 2
    return 0 if answer[6:8] != b"\0\0" or answer[2] & 2 else 1


def network_of(client: bytes) -> bytes:
    """The /24 or the /56 that an address lies in."""
    if len(client) == 4:
        return client[:3]
    return client[12:15] if client.startswith(_MAPPED) else client[:7]


def is_loopback(client: bytes) -> bool:
    if len(client) == 16 and client.startswith(_MAPPED):
        client = client[12:]
    return client[0] == 127 if len(client) == 4 else client == _LOOPBACK6


_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK6 = bytes(15) + b"\1"
