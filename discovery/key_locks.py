"""One writer of a key at a time, within this process.

Owns the locks by key. A write reads a key, decides, and commits on the condition that it is unchanged; two of them at
once would only make each other begin anew, so they take turns here. Other nodes' writes still meet at the
store's comparison. A lock exists for as long as somebody holds it or waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyLocks:
    def __init__(self) -> None:
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}  # with the number of those who want it

    @asynccontextmanager
    async def hold(self, key: bytes) -> AsyncIterator[None]:
        """Waits for the writes of `key` that came before, and makes later ones wait."""
        lock, wanted = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, wanted + 1)
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._locks[key]
            if wanted == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, wanted - 1)

    def __len__(self) -> int:
        return len(self._locks)
