"""Answers kept as bytes, for as long as what they were made from stands.

Owns the two levels (house.md, "the way of the data"): raw, the packet after its id -> the packet to send, and
prepared, (name, type) -> the answer's encoded records. An entry holds the versions of the branches that it was made
from; a change moves those, so nothing ever walks the cache to invalidate it. Bounded in bytes, oldest out first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from discovery.dns.source import Branch

OVERHEAD = 500  # bytes of an entry beside its content: the dict's slot, the objects
STAMP = 96  # bytes of one more stamp: its tuple and its version

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Entry(Generic[V]):
    """`content`, good while `branch` is at `version`, all of `more` at theirs, and the epoch is `epoch`."""

    __slots__ = ("branch", "content", "epoch", "more", "size", "version")

    def __init__(self, content: V, stamps: tuple[tuple[Branch, int], ...], epoch: int, size: int) -> None:
        self.content = content
        (self.branch, self.version), *more = stamps
        self.more = tuple(more)
        self.epoch = epoch
        self.size = size + OVERHEAD + STAMP * len(self.more)

    def holds(self, epoch: int) -> bool:
        if self.branch.version != self.version or self.epoch != epoch:
            return False
        for branch, version in self.more:  # noqa: SIM110  # a generator would cost more than the look itself
            if branch.version != version:
                return False
        return True


class Cache(Generic[K, V]):
    """At most `limit` bytes. `entries` is public for the hot path, which reads it without a call."""

    __slots__ = ("bytes", "entries", "limit")

    def __init__(self, limit: int) -> None:
        self.entries: dict[K, Entry[V]] = {}
        self.bytes = 0
        self.limit = limit

    def get(self, key: K, epoch: int) -> V | None:
        """What is kept under `key`, if it still holds."""
        entry = self.entries.get(key)
        if entry is None or not entry.holds(epoch):
            return None
        return entry.content

    def put(self, key: K, content: V, stamps: tuple[tuple[Branch, int], ...], epoch: int, size: int) -> None:
        """Keeps `content` (`size` bytes with its key). What is larger than a quarter of the limit is not kept."""
        old = self.entries.pop(key, None)
        if old is not None:
            self.bytes -= old.size
        entry = Entry(content, stamps, epoch, size)
        if entry.size * 4 > self.limit:
            return
        self.entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self.limit:
            oldest = next(iter(self.entries))
            self.bytes -= self.entries.pop(oldest).size
