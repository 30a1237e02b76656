"""What this node wrote last: the verb and what was there before, for the store's watches tell neither.

Owns that memory, bounded in number and in bytes. It writes nothing itself: `raw_keys` notes, the watchers of `/v2/keys`
ask. A write is noted when the store has answered, and a watch may tell of it a moment before that; so who asks
waits for the writes that are on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from discovery.kv.contract import KV

REMEMBERED = 1_000  # writes, as many as etcd 2 kept
MAX_VALUE = 4096  # bytes of a value that was replaced; a larger one is not kept


class Written(msgspec.Struct, frozen=True):
    """One write of this node. `replaced`: where that is small; `tree`: the key that was removed with all below it;
    `quiet`: it only gave the key more time."""

    action: str
    replaced: KV | None = None
    tree: bytes | None = None
    quiet: bool = False


class RecentWrites:
    """What this node wrote last, by revision."""

    def __init__(self) -> None:
        self._writes: dict[int, Written] = {}
        self._running: set[asyncio.Future[None]] = set()
        self._removing: dict[bytes, str] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a write up to `note`: a watch may tell of it before the store has answered."""
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(end)
        try:
            yield
        finally:
            self._running.discard(end)
            end.set_result(None)

    @contextmanager
    def removing(self, keys: Iterable[bytes], reason: str = "deregistered") -> Iterator[None]:
        """Around the removal of `keys`, up to `note` or until the view has seen it."""
        keys = tuple(keys)
        self._removing.update(dict.fromkeys(keys, reason))
        try:
            yield
        finally:
            for key in keys:
                self._removing.pop(key, None)

    def reason(self, key: bytes, revision: int) -> str | None:
        """Why the key, which a watch tells just now, was removed by this node; None: it was not, as far as is known."""
        return self._removing.get(key) or ("deregistered" if revision in self._writes else None)

    def note(self, revision: int, written: Written) -> None:
        if written.replaced is not None and len(written.replaced.value) > MAX_VALUE:
            written = msgspec.structs.replace(written, replaced=None)
        self._writes[revision] = written
        if len(self._writes) > REMEMBERED:
            del self._writes[next(iter(self._writes))]

    async def find(self, revision: int) -> Written | None:
        """None for a revision of another writer, of a lease's end, or of long ago."""
        if self._running:
            await asyncio.wait(tuple(self._running))
        return self._writes.get(revision)
