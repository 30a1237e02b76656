"""Answers kept as bytes, for as long as what they were made from stands.

Owns how long and how much is kept; `kept` says what. An entry holds the versions of the branches that it was made
from; a change moves those, so nothing ever walks the cache to invalidate it. Bounded in bytes, oldest out first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from discovery.dns.source import Branch

OVERHEAD = 500  # bytes of an entry beside its content: the dict's slot, the objects
STAMP = 96  # bytes of one more stamp: its tuple and its version

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Entry(Generic[V]):
    """`content`, good while `branch` is at `version`, all of `more` at theirs, and the epoch is `epoch`."""

    __slots__ = ("branch", "content", "epoch", "more", "passing", "size", "version")

    def __init__(
        self, content: V, stamps: tuple[tuple[Branch, int], ...], epoch: int, size: int, passing: bool
    ) -> None:
        self.content = content
        self.passing = passing
        (self.branch, self.version), *more = stamps
        self.more = tuple(more)
        self.epoch = epoch
        self.size = size + OVERHEAD + STAMP * len(self.more)

    @property
    def stamps(self) -> tuple[tuple[Branch, int], ...]:
        return ((self.branch, self.version), *self.more)

    def holds(self, epoch: int) -> bool:
        if self.branch.version != self.version or self.epoch != epoch:
            return False
        for branch, version in self.more:  # noqa: SIM110  # a generator would cost more than the look itself
            if branch.version != version:
                return False
        return True


class Cache(Generic[K, V]):
    """At most `limit` bytes. `entries` is public for the hot path, which reads it without a call.

    What is put as `passing` (questions that anybody can make up without end) fills no more than a quarter, so that a
    flood of it only ever drives out its own kind.
    """

    __slots__ = ("_lasting", "_passing", "bytes", "entries", "limit", "passing_bytes")

    def __init__(self, limit: int) -> None:
        self.entries: dict[K, Entry[V]] = {}
        self.bytes = self.passing_bytes = 0
        self.limit = limit
        self._lasting: deque[K] = (
            deque()
        )  # oldest first; a key that went, or came again as the other kind, stays
        self._passing: deque[K] = deque()

    def get(self, key: K, epoch: int) -> V | None:
        """What is kept under `key`, if it still holds."""
        entry = self.entries.get(key)
        if entry is None or not entry.holds(epoch):
            return None
        return entry.content

    def put(
        self,
        key: K,
        content: V,
        stamps: tuple[tuple[Branch, int], ...],
        epoch: int,
        size: int,
        *,
        passing: bool = False,
    ) -> None:
        """Keeps `content` (`size` bytes with its key). What is larger than a quarter of the limit is not kept."""
        old = self.entries.get(key)
        if old is not None:
            self._count(old, -old.size)
        entry = Entry(content, stamps, epoch, size, passing)
        if entry.size * 4 > self.limit:
            self.entries.pop(key, None)
            return
        self.entries[key] = entry
        if old is None or old.passing != passing:
            self._enqueue(key, self._passing if passing else self._lasting)
        self._count(entry, entry.size)
        self._shrink()

    def grow(self, entry: Entry[V], size: int) -> None:
        """Counts `size` bytes more (or less) for an entry that is kept."""
        entry.size += size
        self._count(entry, size)
        self._shrink()

    def _count(self, entry: Entry[V], size: int) -> None:
        self.bytes += size
        if entry.passing:
            self.passing_bytes += size

    def _shrink(self) -> None:
        while self.passing_bytes * 4 > self.limit or (self.bytes > self.limit and self.passing_bytes):
            self._drop(self._passing.popleft(), passing=True)
        while self.bytes > self.limit:
            self._drop(self._lasting.popleft(), passing=False)

    def _drop(self, key: K, *, passing: bool) -> None:
        entry = self.entries.get(key)
        if entry is not None and entry.passing == passing:
            del self.entries[key]
            self._count(entry, -entry.size)

    def _enqueue(self, key: K, queue: deque[K]) -> None:
        queue.append(key)
        if len(queue) > 2 * len(self.entries) + 64:  # most of it went or changed its kind
            passing = queue is self._passing
            kept = [each for each in dict.fromkeys(queue) if self._is_kept(each, passing=passing)]
            queue.clear()
            queue.extend(kept)

    def _is_kept(self, key: K, *, passing: bool) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.passing == passing
