"""Draining: an instance leaves DNS and stays registered, and comes back. A part of the registry, the only writer.

Owns the move of a key from the services' prefix to `drained`'s keys and back, in one transaction that compares its
modification revision; a lost race begins anew. Value and lease go along: heartbeats go on, the lease's end takes it,
and no other reader of the store serves it meanwhile. A move tells this node's memory at once, and returns
when this node's DNS has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from discovery import drained, names
from discovery.drained import Drained, DrainedInstances
from discovery.errors import NotFound
from discovery.feed import Feed
from discovery.kv.contract import KV, Delete, LeaseNotFound, Op, Put, Store
from discovery.names import Path
from discovery.pieces import pieces
from discovery.raw_keys import ATTEMPTS, WAIT_FOR_VIEW, RawKeys, contended, stored_service, unchanged
from discovery.tree import Record
from discovery.view import View

AT_ONCE = 60  # instances a transaction: two operations each, and etcd takes 128
READS_AT_ONCE = 64


class Returned(msgspec.Struct, frozen=True):
    """An instance that is in DNS. `reflects`: the store's revision that this is the answer of."""

    record: Record
    reflects: int


class Draining:
    """`prefix` without a final slash; `wall` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        view: View,
        feed: Feed,
        raw: RawKeys,
        instances: DrainedInstances,
        *,
        prefix: str,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._view = view
        self._feed = feed
        self._raw = raw
        self._prefix = prefix
        self._wall = wall
        self.instances = instances

    # ------------------------------------------------------------ one instance

    async def drain(self, path: Path) -> Drained:
        """Takes the instance out of DNS; what is out already stays as it is. Raises NotFound, Conflict."""
        key = names.key_of(path, self._prefix)
        async with self._raw.locks.hold(key):
            for _ in range(ATTEMPTS):
                held = await self.registered(path)
                if held is None:
                    there = await self.read(path)
                    if there is None:
                        raise no_instance(path)
                    return there
                if stored_service(held) is None:
                    raise NotFound(f"the record of {names.to_text(path)} is unreadable; replace or delete it")
                moved = await self._move_out([held])
                if moved:
                    return moved[0]
            raise contended(key)

    async def undrain(self, path: Path) -> Returned:
        """Puts the instance back as it was; what is in DNS already stays as it is. Raises NotFound, Conflict."""
        key = names.key_of(path, self._prefix)
        async with self._raw.locks.hold(key):
            for _ in range(ATTEMPTS):
                there = await self.read(path)
                held = await self.registered(path)
                if there is None and held is None:
                    raise no_instance(path)
                if there is None and held is not None:
                    return Returned(Record(path, held), max(held.mod_revision, self._view.revision))
                assert there is not None
                back = there.original
                ops: list[Op] = [Delete(there.kv.key)]
                if held is None:
                    ops.append(Put(back.key, back.value, back.lease))
                when = [unchanged(there.kv.key, there.kv), unchanged(back.key, held)]
                try:
                    done = await self._store.txn(when, ops)
                except LeaseNotFound:
                    continue  # it ended just now, and took the instance with it
                if not done.succeeded:
                    continue
                self.instances.remove(there.kv.key, done.revision)
                if held is None:
                    await self._feed.wait(done.revision, WAIT_FOR_VIEW)
                    held = KV(back.key, back.value, done.revision, done.revision, 1, back.lease)
                else:
                    await self._raw.release(back, held.lease)
                return Returned(Record(path, held), done.revision)
            raise contended(key)

    async def remove(self, there: Drained) -> int:
        """The revision that removed a drained instance; 0 when it has changed since it was read."""
        done = await self._store.txn([unchanged(there.kv.key, there.kv)], [Delete(there.kv.key)])
        if not done.succeeded:
            return 0
        self.instances.remove(there.kv.key, done.revision)
        await self._raw.release(there.original, 0)
        return done.revision

    # ------------------------------------------------------------ all of one lease

    async def drain_lease(self, lease: int) -> Sequence[Drained]:
        """All that the lease holds, those that were out already too, in the order of keys. Raises LeaseNotFound.

        So many at once as a transaction takes: it may have been done for some when the store fails.
        """
        found: list[Drained] = []
        held = await self._held(lease)
        away = [kv for kv in held if kv.key.startswith(drained.ROOT)]
        found.extend(there for kv in away if (there := drained.read(kv, self._prefix)) is not None)
        present = [kv for kv in held if self._path(kv.key) is not None and stored_service(kv) is not None]
        for chunk in pieces(present, AT_ONCE, lambda kv: len(kv.key) + len(kv.value)):
            moved = await self._move_out(chunk)
            found.extend(moved or await self._one_by_one(chunk))
        return sorted(found, key=lambda each: each.kv.key)

    async def undrain_lease(self, lease: int) -> Sequence[Returned]:
        """All of the lease's instances that were out of DNS, in the order of keys. Raises LeaseNotFound."""
        back: list[Returned] = []
        held = await self._held(lease)
        paths = [names.path_of(drained.original_key(kv.key), self._prefix) for kv in held if _is_away(kv.key)]
        for path in paths:
            if path is not None:
                try:
                    back.append(await self.undrain(path))
                except NotFound:
                    continue  # deregistered just now
        return back

    async def _one_by_one(self, held: Sequence[KV]) -> Sequence[Drained]:
        """After one of them had changed."""
        found = []
        for kv in held:
            path = self._path(kv.key)
            assert path is not None
            try:
                found.append(await self.drain(path))
            except NotFound:
                continue  # deregistered just now
        return found

    async def _held(self, lease: int) -> Sequence[KV]:
        gate = asyncio.Semaphore(READS_AT_ONCE)

        async def read(key: bytes) -> KV | None:
            async with gate:
                return await self._raw.read(key)

        keys = await self._store.lease_keys(lease)
        return [kv for kv in await asyncio.gather(*map(read, keys)) if kv is not None]

    # ------------------------------------------------------------ for the registry too

    async def registered(self, path: Path) -> KV | None:
        """The instance as the store has it; where only others wrote it, under a key with capitals, that one."""
        key = names.key_of(path, self._prefix)
        held = await self._raw.read(key)
        if held is None:
            record = self._view.record(path)
            if record is not None and record.key != key:
                held = await self._raw.read(record.key)
        return held

    async def read(self, path: Path) -> Drained | None:
        """The drained instance as the store has it."""
        key = drained.drained_key(names.key_of(path, self._prefix))
        known = self.instances.find(path)
        kv = await self._raw.read(key)
        if kv is None and known is not None and known.kv.key != key:
            kv = await self._raw.read(known.kv.key)
        return drained.read(kv, self._prefix) if kv is not None else None

    # ------------------------------------------------------------ inside

    async def _move_out(self, held: Sequence[KV]) -> Sequence[Drained]:
        """Nothing when one of them has changed since it was read; then none has moved."""
        at = self._wall()
        puts = [Put(drained.drained_key(kv.key), drained.write(at, kv.value), kv.lease) for kv in held]
        with self._raw.recent.removing((kv.key for kv in held), "drained"):
            try:
                done = await self._store.txn(
                    [unchanged(kv.key, kv) for kv in held], [*(Delete(kv.key) for kv in held), *puts]
                )
            except LeaseNotFound:
                return []
            if not done.succeeded:
                return []
            found = []
            for put in puts:
                kv = KV(put.key, put.value, done.revision, done.revision, 1, put.lease)
                self.instances.put(kv)
                there = drained.read(kv, self._prefix)
                assert there is not None
                found.append(there)
            await self._feed.wait(done.revision, WAIT_FOR_VIEW)
            return found

    def _path(self, key: bytes) -> Path | None:
        return names.path_of(key, self._prefix)


def _is_away(key: bytes) -> bool:
    return key.startswith(drained.ROOT + b"/")


def no_instance(path: Path) -> NotFound:
    return NotFound(f"there is no instance {names.to_text(path)}, or its lease has expired: register it")
