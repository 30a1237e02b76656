"""The instances that were taken out of DNS and stay registered: how they are kept, and all there are.

Owns the keys below `/discovery/drained/`, each with the whole key that it stood under behind that, its value as it
was, and the time; and what is known of them here, in memory, as the view knows the rest. It never writes: `draining`
does, and tells it at once. How: a read, then a watch, and only of what these tell the listener hears. While the store
is out of reach the last state stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Protocol

import msgspec

from discovery import names
from discovery.errors import StoreError
from discovery.kv.contract import KV, Event, Store, prefix_end
from discovery.names import Path
from discovery.tree import Record

log = logging.getLogger(__name__)

ROOT = b"/discovery/drained"
RETRY = 1.0  # seconds after a failure


class Moved(msgspec.Struct, frozen=True):
    """The value of such a key. `at`: seconds since the epoch; `value`: what is put back, byte for byte."""

    at: float
    value: str


class Drained(msgspec.Struct, frozen=True, gc=False):
    """An instance out of DNS. `record` is as the view had it, its revision that of the move or of a later change."""

    record: Record
    kv: KV
    at: float

    @property
    def original(self) -> KV:
        """What stood under the instance's own key, as far as its value and its lease go."""
        kv = self.kv
        return KV(
            original_key(kv.key),
            msgspec.json.decode(kv.value, type=Moved).value.encode(),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            kv.lease,
        )


def drained_key(key: bytes) -> bytes:
    return ROOT + key


def original_key(key: bytes) -> bytes:
    """The instance's own key; any other key is what it is."""
    return key.removeprefix(ROOT)


def write(at: float, value: bytes) -> bytes:
    """Raises UnicodeDecodeError for a value that no service has."""
    return msgspec.json.encode(Moved(at, value.decode()))


def read(kv: KV, prefix: str) -> Drained | None:
    """None where it is none of this prefix's, or unreadable."""
    path = names.path_of(original_key(kv.key), prefix)
    if path is None:
        return None
    try:
        moved = msgspec.json.decode(kv.value, type=Moved)
    except msgspec.DecodeError as error:
        log.warning("%s is no drained instance: %s", kv.key.decode(errors="replace"), error)
        return None
    key = original_key(kv.key)
    value = moved.value.encode()
    record = Record(path, KV(key, value, kv.create_revision, kv.mod_revision, kv.version, kv.lease))
    return Drained(record, kv, moved.at)


class Listener(Protocol):
    """Who is told of each change that the store tells of, right after."""

    def drained_changed(self, path: Path, revision: int, *, news: bool) -> None:
        """`news` False: it was known here before, since this node did it."""


class DrainedInstances:
    """All of them. `prefix` without a final slash; `revision` is that of the last change the store told of, 0: none."""

    def __init__(self, store: Store, *, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._key = drained_key(prefix.encode()) + b"/"
        self._held: dict[Path, Drained] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.loaded = asyncio.Event()
        self.revision = 0
        self.listener: Listener | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(), name="drained-follow")]

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ reading

    def find(self, path: Path) -> Drained | None:
        return self._held.get(path)

    def below(self, path: Path, *, direct: bool) -> Iterator[Drained]:
        """Those at or below a name, or only those directly below it, in no order."""
        size = len(path)
        for at, drained in self._held.items():
            if at[:size] == path and (not direct or len(at) == size + 1):
                yield drained

    def __len__(self) -> int:
        return len(self._held)

    # ------------------------------------------------------------ being told

    def put(self, kv: KV) -> bool:
        """What stands there now, where nothing newer is known; whether it was news."""
        drained = read(kv, self._prefix)
        if drained is None:
            return False
        held = self._held.get(drained.record.path)
        if held is not None and held.kv.mod_revision >= kv.mod_revision:
            return False
        self._held[drained.record.path] = drained
        return True

    def remove(self, key: bytes, revision: int) -> bool:
        """What was removed at that revision, or before it was seen to be gone; whether it was news."""
        path = names.path_of(original_key(key), self._prefix)
        held = self._held.get(path) if path is not None else None
        if path is None or held is None or held.kv.key != key or held.kv.mod_revision > revision:
            return False
        del self._held[path]
        return True

    # ------------------------------------------------------------ inside

    async def _follow(self) -> None:
        while True:
            try:
                await self._load_and_watch()
            except StoreError as error:
                log.debug("the drained instances can't be followed: %s", error)  # the feed tells of the store
            await asyncio.sleep(RETRY)

    async def _load_and_watch(self) -> None:
        end = prefix_end(self._key)
        found = await self._store.range(self._key, end)
        there = {kv.key for kv in found.kvs}
        changed = [held.kv.key for held in self._held.values() if held.kv.key not in there]
        changed = [key for key in changed if self.remove(key, found.revision)]
        changed += [kv.key for kv in found.kvs if self.put(kv)]
        if self.loaded.is_set():  # after a break; before, nobody was told anything
            for key in changed:
                self._tell(key, found.revision, news=True)
        self.loaded.set()
        watch = self._store.watch(self._key, end, from_revision=found.revision + 1, history=found.history)
        async with watch as batches:
            async for batch in batches:
                for event in batch.events:
                    self._apply(event)

    def _apply(self, event: Event) -> None:
        kv = event.kv
        news = self.remove(kv.key, kv.mod_revision) if event.deleted else self.put(kv)
        self._tell(kv.key, kv.mod_revision, news=news)

    def _tell(self, key: bytes, revision: int, *, news: bool) -> None:
        path = names.path_of(original_key(key), self._prefix)
        if path is not None:
            self.revision = max(self.revision, revision)
            if self.listener is not None:
                self.listener.drained_changed(path, revision, news=news)
