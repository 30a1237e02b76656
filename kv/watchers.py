"""Who is told of a change: the watches, their way from history to the present, and their bounded queues.

Owns the index from keys to watchers and the queues. It never waits for a watcher: one whose queue is full is
cut off. How: a watch reads pages of history on its reader's own demand until it has seen all that was
published, and is live from that turn of the loop on, so nothing lies between the two. Live watchers of one key
or of a prefix are found in dicts: a change costs the same whatever the number of watchers elsewhere; other
ranges are looked through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from discovery.errors import StoreError
from discovery.kv.contract import (
    Compacted,
    Event,
    FutureRevision,
    InvalidRequest,
    Lagged,
    Unavailable,
    WatchBatch,
    prefix_end,
)
from discovery.kv.lane import Lane
from discovery.kv.requests import check_range, covers
from discovery.kv.rows import ReadView

K = TypeVar("K")


class Watcher:
    """The queue of one watch. Until it is `live` it reads history, and goes on with `next_revision`."""

    def __init__(self, key: bytes, end: bytes, next_revision: int, limit: int) -> None:
        self.key = key
        self.end = end
        self.next_revision = next_revision  # earlier batches are not its
        self.live = False
        self.ended = False
        self._limit = limit
        self._queue: deque[WatchBatch] = deque()
        self._waiting = 0  # events in the queue
        self._failure: StoreError | None = None
        self._news = asyncio.Event()

    def load(self, history: Sequence[WatchBatch], next_revision: int) -> None:
        """A page of history, taken on the watcher's own demand: no limit."""
        for batch in history:
            self._queue.append(batch)
            self._waiting += len(batch.events)
        self.next_revision = next_revision

    def push(self, batch: WatchBatch) -> bool:
        """False: the watcher was too slow, and is cut off. One batch always fits, whatever its size."""
        if self._queue and self._waiting + len(batch.events) > self._limit:
            self.fail(
                Lagged(
                    f"the watch read too slowly, {self._waiting} events waited: "
                    "watch anew from the last revision seen, plus one"
                )
            )
            return False
        self._queue.append(batch)
        self._waiting += len(batch.events)
        self._news.set()
        return True

    def fail(self, failure: StoreError) -> None:
        """What waited is dropped: its reader resumes from the last batch it saw."""
        self._queue.clear()
        self._waiting = 0
        self._failure = failure
        self._news.set()

    def finish(self) -> None:
        """No more batches come; those that wait can still be read."""
        self.ended = True
        self._news.set()

    def take(self) -> WatchBatch | None:
        """The next batch that waits, or None. Raises what cut the watcher off."""
        if self._queue:
            batch = self._queue.popleft()
            self._waiting -= len(batch.events)
            return batch
        if self._failure is not None:
            raise self._failure
        self._news.clear()
        return None

    async def news(self) -> None:
        await self._news.wait()


class WatcherIndex:
    """Live watchers by what they watch. A dict of watchers is used as a set that keeps its order."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._by_prefix: dict[bytes, dict[Watcher, None]] = {}
        self._by_range: dict[tuple[bytes, bytes], dict[Watcher, None]] = {}
        self._lengths: dict[int, int] = {}  # length -> how many watched prefixes have it

    def add(self, watcher: Watcher) -> None:
        key, end = watcher.key, watcher.end
        if not end:
            self._by_key.setdefault(key, {})[watcher] = None
        elif end == prefix_end(key):
            if key not in self._by_prefix:
                self._lengths[len(key)] = self._lengths.get(len(key), 0) + 1
            self._by_prefix.setdefault(key, {})[watcher] = None
        else:
            self._by_range.setdefault((key, end), {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Nothing happens when it is not there."""
        key, end = watcher.key, watcher.end
        if not end:
            _remove(self._by_key, key, watcher)
        elif end == prefix_end(key):
            if _remove(self._by_prefix, key, watcher):
                self._lengths[len(key)] -= 1
                if not self._lengths[len(key)]:
                    del self._lengths[len(key)]
        else:
            _remove(self._by_range, (key, end), watcher)

    def watching(self, key: bytes) -> Sequence[Watcher]:
        """Every watcher of `key`."""
        found = list(self._by_key.get(key, ()))
        for length in self._lengths:
            if length <= len(key) and (watchers := self._by_prefix.get(key[:length])):
                found += watchers
        for (start, end), watchers in self._by_range.items():
            if covers(start, end, key):
                found += watchers
        return found

    def dispatch(self, batches: Sequence[WatchBatch]) -> None:
        """Gives each batch, or the part of it that it covers, to each watcher; cuts off those that are full."""
        for batch in batches:
            parts: dict[Watcher, list[Event]] = {}
            for event in batch.events:
                for watcher in self.watching(event.kv.key):
                    if batch.revision >= watcher.next_revision:
                        parts.setdefault(watcher, []).append(event)
            for watcher, events in parts.items():
                whole = len(events) == len(batch.events)
                if not watcher.push(batch if whole else WatchBatch(batch.revision, events)):
                    self.remove(watcher)


def _remove(index: dict[K, dict[Watcher, None]], key: K, watcher: Watcher) -> bool:
    """True when it was the last one there."""
    found = index.get(key)
    if found is None:
        return False
    found.pop(watcher, None)
    if not found:
        del index[key]
    return not found


class Watches:
    """All watches of a store. `revision` and `compact_revision` are what has been published."""

    def __init__(self, reads: Lane[ReadView], revision: int, compact_revision: int, queue: int) -> None:
        self.revision = revision
        self.compact_revision = compact_revision
        self._answered = revision  # the highest that a read has shown, which may be before it is published
        self._reads = reads
        self._queue = queue
        self._index = WatcherIndex()
        self._all: dict[Watcher, None] = {}  # live or not
        self._closing = False

    def publish(self, batches: Sequence[WatchBatch], revision: int, compact_revision: int) -> None:
        self.revision, self.compact_revision = revision, compact_revision
        self._index.dispatch(batches)

    def answered(self, revision: int) -> None:
        """A read has shown `revision`: a watch may begin right after it."""
        self._answered = max(self._answered, revision)

    @asynccontextmanager
    async def open(
        self, key: bytes, end: bytes, from_revision: int
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        """As `Store.watch`."""
        check_range(key, end)
        if from_revision < 1:
            raise InvalidRequest(f"a watch begins at revision 1 or later, not at {from_revision}")
        if self._closing:
            raise Unavailable("the store is closing: start it again")
        if from_revision < self.compact_revision:
            raise Compacted(self.compact_revision)
        reached = max(self.revision, self._answered)
        if from_revision > reached + 1:
            raise FutureRevision(
                f"the store is at revision {reached}, and the watch asks for {from_revision}, "
                "which was another store's: read the state anew"
            )
        watcher = Watcher(key, end, from_revision, self._queue)
        self._all[watcher] = None
        self._go_live(watcher)
        try:
            yield Batches(self, watcher)
        finally:
            del self._all[watcher]
            self._index.remove(watcher)

    def begin_close(self) -> None:
        """From here on a watch that can't read history any more has come to its end."""
        self._closing = True

    def finish(self) -> None:
        """Ends all watches; what was published can still be read from the live ones."""
        for watcher in self._all:
            watcher.finish()

    async def next_batch(self, watcher: Watcher) -> WatchBatch | None:
        """The next batch, from history or live; None at the end."""
        while (batch := watcher.take()) is None:
            if watcher.ended:
                return None
            if watcher.live:
                await watcher.news()
                continue
            try:
                await self._load(watcher)
            except Unavailable:
                if self._closing:
                    return None
                raise
            self._go_live(watcher)
        return batch

    async def _load(self, watcher: Watcher) -> None:
        key, end, start, stop = watcher.key, watcher.end, watcher.next_revision, self.revision + 1
        batches, next_revision = await self._reads.do(lambda view: view.history(key, end, start, stop))
        watcher.load(batches, next_revision)

    def _go_live(self, watcher: Watcher) -> None:
        if watcher.next_revision > self.revision:
            watcher.live = True
            self._index.add(watcher)


class Batches:
    """The iterator of one watch."""

    def __init__(self, watches: Watches, watcher: Watcher) -> None:
        self._watches = watches
        self._watcher = watcher

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        batch = await self._watches.next_batch(self._watcher)
        if batch is None:
            raise StopAsyncIteration
        return batch
