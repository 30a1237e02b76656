"""How much history to keep: by age and by count.

Owns the choice of the revision to compact at. Pure: `now`, in seconds of any monotonic clock, is an argument.
How: it marks the revision every few seconds, and what is below a mark that is old enough may go.
"""

from __future__ import annotations

from collections import deque

EVERY = 10.0
"""Seconds between two marks, and so between two compactions."""


class History:
    def __init__(self, *, keep_seconds: float, keep_revisions: int) -> None:
        """Both are limits: what is older than `keep_seconds` goes, and what is beyond `keep_revisions`."""
        self._keep_seconds = keep_seconds
        self._keep_revisions = keep_revisions
        self._marks: deque[tuple[float, int]] = deque()
        self._old = 0  # the newest marked revision that is old enough

    def mark(self, now: float, revision: int) -> bool:
        """Notes where the store is; False when the last mark is too young for another."""
        if self._marks and now < self._marks[-1][0] + EVERY:
            return False
        self._marks.append((now, revision))
        return True

    def target(self, now: float, revision: int) -> int:
        """The revision below which history may go now."""
        while self._marks and self._marks[0][0] + self._keep_seconds <= now:
            self._old = self._marks.popleft()[1]
        return max(self._old, revision - self._keep_revisions)
