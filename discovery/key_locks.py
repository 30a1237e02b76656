"""One writer of a key at a time, within this process.

Owns the locks by key. A write reads a key, decides, and commits on the condition that it is unchanged; two of them at
once would only make each other begin anew, so they take turns here. Other nodes' writes still meet at the
store's comparison. A lock exists for as long as somebody holds it or waits for it.
"""

from __future__ import annotations

import asyncio


class KeyLocks:
    def __init__(self) -> None:
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}  # with the number of those who want it

    def hold(self, key: bytes) -> Hold:
        """Waits for the writes of `key` that came before, and makes later ones wait."""
        return Hold(self._locks, key)

    def __len__(self) -> int:
        return len(self._locks)


class Hold:
    """One holding of one key, from `async with` on. A class, for a third of a generator's time."""

    __slots__ = ("_key", "_locks")

    def __init__(self, locks: dict[bytes, tuple[asyncio.Lock, int]], key: bytes) -> None:
        self._locks = locks
        self._key = key

    async def __aenter__(self) -> None:
        lock, wanted = self._locks.get(self._key) or (asyncio.Lock(), 0)
        self._locks[self._key] = (lock, wanted + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._locks[self._key][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, wanted = self._locks[self._key]
        if wanted == 1:
            del self._locks[self._key]
        else:
            self._locks[self._key] = (lock, wanted - 1)
