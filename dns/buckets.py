"""Token buckets by key: what each client, or network, may still have at a time.

Owns their count and their filling: a bucket holds one second of its rate, at least 1, and fills at that rate. Pure: the
time is an argument. Bounded: a bucket that nobody has asked for in a second is full again and is forgotten; beyond
MAX_BUCKETS the older half is forgotten earlier. What is done to those over their rate is the caller's.
"""

from __future__ import annotations

MAX_BUCKETS = 100_000  # in each of two halves; about 150 bytes each
FORGET = 1.0  # seconds after which a bucket is full again, whatever the rate


class Bucket:
    """`left` may be taken from; `over` is the caller's count of what was refused."""

    __slots__ = ("at", "left", "over")

    def __init__(self, left: float, now: float) -> None:
        self.left = left
        self.at = now
        self.over = 0


class Buckets:
    def __init__(self, *, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._recent: dict[bytes, Bucket] = {}
        self._older: dict[bytes, Bucket] = {}
        self._turned = 0.0

    def __len__(self) -> int:
        """Those held now."""
        return len(self._recent) + len(self._older)

    def filled(self, key: bytes, rate: float, now: float) -> Bucket:
        """The key's bucket as it is at `now`, in seconds that only grow; `rate`: a second."""
        if now - self._turned >= FORGET or len(self._recent) >= self._max:
            self._recent, self._older, self._turned = {}, self._recent, now
        bucket = self._recent.get(key)
        if bucket is None:
            bucket = self._older.pop(key, None) or Bucket(max(1.0, rate), now)
            self._recent[key] = bucket
        bucket.left = min(max(1.0, rate), bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        return bucket
