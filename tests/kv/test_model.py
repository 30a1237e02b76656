"""The embedded store against a small dict model: random calls, restarts, and the watch that tells them all."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from discovery.errors import StoreError
from discovery.kv.contract import (
    KV,
    Compare,
    Delete,
    LeaseNotFound,
    Op,
    Put,
    Range,
    RangeResult,
    Target,
    prefix_end,
)
from discovery.kv.embedded import EmbeddedStore
from tests.support.clock import FakeClock

KEYS = [b"a", b"a/1", b"a/2", b"b", b"b/1", b"c", b"\xff"]
RANGES = [
    (b"a", prefix_end(b"a")),
    (b"a/", prefix_end(b"a/")),
    (b"b", b"\0"),
    (b"", b"\0"),
    (b"a", b"b/1"),
    (b"c", b""),
]
TTL = 100


class Model:
    """What the contract says, as plainly as it can be said."""

    def __init__(self) -> None:
        self.revision = 1
        self.kvs: dict[bytes, KV] = {}
        self.leases: set[int] = set()

    def put(self, key: bytes, value: bytes, lease: int, revision: int) -> None:
        old = self.kvs.get(key)
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        self.kvs[key] = KV(key, value, created, revision, version, lease)

    def inside(self, key: bytes, end: bytes) -> list[bytes]:
        return sorted(
            k for k in self.kvs if (k == key if not end else k >= key and (end == b"\0" or k < end))
        )

    def delete(self, key: bytes, end: bytes) -> int:
        found = self.inside(key, end)
        for one in found:
            del self.kvs[one]
        return len(found)

    def revoke(self, lease: int) -> int:
        self.leases.remove(lease)
        keys = [key for key, kv in self.kvs.items() if kv.lease == lease]
        for key in keys:
            del self.kvs[key]
        return len(keys)


class Walk:
    """One random walk over store and model together."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng, self.model, self.clock = path, rng, Model(), FakeClock()

    async def open(self) -> None:
        self.store = EmbeddedStore(self.path, clock=self.clock)
        await self.store.start()

    def lease(self) -> int:
        known = [0, 0, *sorted(self.model.leases), 999]
        return self.rng.choice(known)

    async def put(self) -> None:
        key, value, lease = self.rng.choice(KEYS), self.rng.randbytes(3), self.lease()
        if lease and lease not in self.model.leases:
            assert isinstance(await caught(self.store.put(key, value, lease=lease)), LeaseNotFound)
            return
        self.model.revision += 1
        self.model.put(key, value, lease, self.model.revision)
        assert await self.store.put(key, value, lease=lease) == self.model.revision

    async def delete(self) -> None:
        key, end = self.rng.choice([*RANGES, *((key, b"") for key in KEYS)])
        count = self.model.delete(key, end)
        self.model.revision += count > 0
        assert await self.store.delete(key, end) == (self.model.revision, count)

    async def txn(self) -> None:
        model, rng = self.model, self.rng
        key = rng.choice(KEYS)
        kv = model.kvs.get(key)
        when = Compare(key, Target.VERSION, "=", rng.choice([0, 1, kv.version if kv else 0]))
        holds = (kv.version if kv else 0) == when.operand
        branches = (self.branch(), self.branch())
        grant = rng.choice([0, 0, TTL])
        branch = branches[0] if holds else branches[1]
        needed = {op.lease for op in branch if isinstance(op, Put)} - model.leases - {0}
        call = self.store.txn([when], *branches, grant_ttl=grant)
        if needed and not grant:
            assert isinstance(await caught(call), LeaseNotFound)
            return
        result = await call
        assert result.succeeded is holds
        revision, changed = model.revision + 1, False
        if grant and any(isinstance(op, Put) for op in branch):
            assert result.lease is not None
            model.leases.add(result.lease.id)
        else:
            assert result.lease is None
        for op, response in zip(branch, result.responses, strict=True):
            if isinstance(op, Put):
                model.put(op.key, op.value, result.lease.id if result.lease else op.lease, revision)
                changed = True
            elif isinstance(op, Delete):
                changed = model.delete(op.key, op.end) > 0 or changed
            else:
                assert isinstance(response, RangeResult)
                assert list(response.kvs) == [model.kvs[key] for key in model.inside(op.key, op.end)]
        model.revision += changed
        assert result.revision == model.revision

    def branch(self) -> list[Op]:
        rng = self.rng
        puts: list[Op] = [
            Put(key, rng.randbytes(2), self.lease()) for key in rng.sample(KEYS[:4], rng.randint(0, 2))
        ]
        deletes: list[Op] = [Delete(key, b"") for key in rng.sample(KEYS[4:], rng.randint(0, 2))]
        ops = puts + deletes + [Range(*rng.choice(RANGES))]
        rng.shuffle(ops)
        return ops

    async def grant(self) -> None:
        self.model.leases.add((await self.store.lease_grant(TTL)).id)

    async def revoke(self) -> None:
        if self.model.leases:
            lease = self.rng.choice(sorted(self.model.leases))
            self.model.revision += self.model.revoke(lease) > 0
            await self.store.lease_revoke(lease)

    async def expire(self) -> None:
        """All leases but the renewed ones end, in one chunk."""
        kept = self.rng.sample(sorted(self.model.leases), len(self.model.leases) // 2)
        self.clock.advance(TTL - 1)
        assert await self.store.lease_keepalive_many(kept) == []
        self.clock.advance(2)
        await self.store.expire_due()
        gone = sum([self.model.revoke(lease) for lease in self.model.leases - set(kept)])
        self.model.revision += gone > 0

    async def restart(self) -> None:
        await self.store.close()
        await self.open()

    async def check(self) -> None:
        key, end = self.rng.choice(RANGES)
        found = await self.store.range(key, end)
        assert list(found.kvs) == [self.model.kvs[key] for key in self.model.inside(key, end)]
        assert found.revision == self.model.revision
        assert (await self.store.status()).leases == len(self.model.leases)

    async def replay(self) -> None:
        """The watch from the first revision, applied to nothing, is the state."""
        state: dict[bytes, KV] = {}
        last = 1
        if self.model.revision == 1:
            return
        async with self.store.watch(b"", b"\0", from_revision=1) as batches:
            async for batch in batches:
                assert batch.revision == last + 1
                last = batch.revision
                for event in batch.events:
                    assert event.kv.mod_revision == batch.revision
                    if event.deleted:
                        del state[event.kv.key]
                    else:
                        state[event.kv.key] = event.kv
                if last == self.model.revision:
                    break
        assert state == self.model.kvs


async def caught(call: object) -> StoreError | None:
    assert asyncio.iscoroutine(call)
    try:
        await call
    except StoreError as error:
        return error
    return None


async def test_random_calls_agree_with_the_model(tmp_path: Path, rng: random.Random) -> None:
    for number in range(3):
        walk = Walk(tmp_path / str(number), rng)
        await walk.open()
        steps = [walk.put, walk.delete, walk.txn, walk.grant, walk.revoke, walk.expire, walk.restart]
        for _ in range(120):
            (step,) = rng.choices(steps, [8, 4, 8, 3, 2, 1, 0.3])
            await step()
            await walk.check()
        await walk.replay()
        await walk.store.close()
