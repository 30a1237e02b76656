"""The embedded store against a small dict model: any calls in any order, time, crashes, and watches."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from discovery.kv.contract import (
    KV,
    Compacted,
    Compare,
    Delete,
    LeaseNotFound,
    Op,
    Put,
    Range,
    RangeResult,
    Target,
    WatchBatch,
    prefix_end,
)
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.remaining import EVERY, LONG
from tests.support.clock import FakeClock
from tests.support.contract_suite import changes

KEYS = [b"a", b"a/1", b"a/2", b"b", b"b/1", b"c", b"\xff"]
RANGES = [
    (b"a", prefix_end(b"a")),
    (b"a/", prefix_end(b"a/")),
    (b"b", b"\0"),
    (b"", b"\0"),
    (b"a", b"b/1"),
    (b"c", b""),
]
TTLS = [10, 100, 1_000]
UNKNOWN = 999

Changes = list[tuple[bytes, bytes | None]]
T = TypeVar("T")

keys = st.sampled_from(KEYS)
values = st.binary(max_size=2)
picks = st.integers(0, 9)  # which of the leases there are


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    return key == start if not end else key >= start and (end == b"\0" or key < end)


class Leased:
    def __init__(self, ttl: int, deadline: float) -> None:
        self.ttl, self.deadline = ttl, deadline
        self.noted: int | None = None


class Model:
    """What the contract says, as plainly as it can be said."""

    def __init__(self) -> None:
        self.revision = 1
        self.compact_revision = 0
        self.kvs: dict[bytes, KV] = {}
        self.leases: dict[int, Leased] = {}
        self.history: dict[int, Changes] = {}
        self.next_note = 0.0
        self._now: Changes = []

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        revision, old = self.revision + 1, self.kvs.get(key)
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        self.kvs[key] = KV(key, value, created, revision, version, lease)
        self._now.append((key, value))

    def inside(self, key: bytes, end: bytes) -> list[bytes]:
        return sorted(k for k in self.kvs if covers(key, end, k))

    def delete(self, key: bytes, end: bytes) -> int:
        return self._remove(self.inside(key, end))

    def revoke(self, leases: set[int]) -> None:
        for lease in leases:
            del self.leases[lease]
        self._remove(sorted(key for key, kv in self.kvs.items() if kv.lease in leases))

    def _remove(self, found: list[bytes]) -> int:
        for key in found:
            del self.kvs[key]
            self._now.append((key, None))
        return len(found)

    def commit(self) -> int:
        """What changed is one revision; the revision now."""
        if self._now:
            self.revision += 1
            self.history[self.revision] = self._now
            self._now = []
        return self.revision


class StoreMachine(RuleBasedStateMachine):
    """A live watcher runs through all of it, and begins anew after its store was killed."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = Path(tempfile.mkdtemp(prefix="model-"))
        self.lives = 0
        self.clock = FakeClock()
        self.model = Model()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @initialize()
    def open(self) -> None:
        async def start() -> None:
            self.store = EmbeddedStore(self.place / str(self.lives), clock=self.clock, keep_seconds=1e12)
            await self.store.start()
            self.seen: list[WatchBatch] = []
            self.told = asyncio.Event()
            self.live_from = self.model.revision + 1
            self.task = asyncio.create_task(self.listen(self.live_from))

        self.run(start())
        self.model.next_note = self.clock() + EVERY

    async def listen(self, revision: int) -> None:
        async with self.store.watch(b"", b"\0", from_revision=revision) as batches:
            async for batch in batches:
                self.seen.append(batch)
                self.told.set()

    def pick(self, number: int) -> int:
        known = [0, 0, *sorted(self.model.leases), UNKNOWN]
        return known[number % len(known)]

    # ---- writes

    @rule(key=keys, value=values, number=picks)
    def put(self, key: bytes, value: bytes, number: int) -> None:
        lease = self.pick(number)
        if lease and lease not in self.model.leases:
            with pytest.raises(LeaseNotFound):
                self.run(self.store.put(key, value, lease=lease))
            return
        self.model.put(key, value, lease)
        assert self.run(self.store.put(key, value, lease=lease)) == self.model.commit()

    @rule(at=st.sampled_from([*RANGES, *((key, b"") for key in KEYS)]))
    def delete(self, at: tuple[bytes, bytes]) -> None:
        count = self.model.delete(*at)
        assert self.run(self.store.delete(*at)) == (self.model.commit(), count)

    @rule(
        calls=st.lists(
            st.one_of(st.tuples(keys, values, picks), st.sampled_from(RANGES)), min_size=2, max_size=6
        )
    )
    def many_at_once(self, calls: list[tuple[bytes, bytes, int] | tuple[bytes, bytes]]) -> None:
        """One group of the store, puts and deletes; each is a revision of its own, in the order they were called."""

        async def call() -> list[object]:
            made: list[Coroutine[Any, Any, object]] = []
            for each in calls:
                if len(each) == 3:
                    made.append(self.store.put(each[0], each[1], lease=self.pick(each[2])))
                else:
                    made.append(self.store.delete(*each))
            return list(await asyncio.gather(*made, return_exceptions=True))

        for each, found in zip(calls, self.run(call()), strict=True):
            if len(each) == 2:
                count = self.model.delete(*each)
                assert found == (self.model.commit(), count)
                continue
            lease = self.pick(each[2])
            if lease and lease not in self.model.leases:
                assert isinstance(found, LeaseNotFound)
            else:
                self.model.put(each[0], each[1], lease)
                assert found == self.model.commit()

    @rule(
        key=keys,
        wanted=st.integers(0, 3),
        puts=st.lists(
            st.tuples(st.sampled_from(KEYS[:4]), values, picks), max_size=2, unique_by=lambda p: p[0]
        ),
        deletes=st.lists(st.sampled_from(KEYS[4:]), max_size=2, unique=True),
        look=st.sampled_from(RANGES),
        swap=st.booleans(),
        grant=st.sampled_from([0, 0, *TTLS]),
    )
    def txn(
        self,
        key: bytes,
        wanted: int,
        puts: list[tuple[bytes, bytes, int]],
        deletes: list[bytes],
        look: tuple[bytes, bytes],
        swap: bool,
        grant: int,
    ) -> None:
        model = self.model
        ops: list[Op] = [Put(k, value, self.pick(number)) for k, value, number in puts]
        ops += [Range(*look), *(Delete(k) for k in deletes), Range(*look)]
        when = Compare(key, Target.VERSION, "=", wanted)
        held = model.kvs.get(key)
        holds = (held.version if held else 0) == wanted
        then, otherwise = ([], ops) if swap else (ops, [])
        branch = then if holds else otherwise
        needed = {op.lease for op in branch if isinstance(op, Put)} - model.leases.keys() - {0}
        if needed and not grant:
            with pytest.raises(LeaseNotFound):
                self.run(self.store.txn([when], then, otherwise))
            return
        result = self.run(self.store.txn([when], then, otherwise, grant_ttl=grant))
        assert result.succeeded is holds
        assert (result.lease is not None) == bool(grant and any(isinstance(op, Put) for op in branch))
        if result.lease is not None:
            model.leases[result.lease.id] = Leased(grant, self.clock() + grant)
        for op, response in zip(branch, result.responses, strict=True):
            if isinstance(op, Put):
                model.put(op.key, op.value, result.lease.id if result.lease else op.lease)
            elif isinstance(op, Delete):
                model.delete(op.key, op.end)
            else:
                assert isinstance(response, RangeResult)
                assert list(response.kvs) == [model.kvs[k] for k in model.inside(op.key, op.end)]
        assert result.revision == model.commit()

    # ---- leases and time

    @rule(ttl=st.sampled_from(TTLS))
    def grant(self, ttl: int) -> None:
        lease = self.run(self.store.lease_grant(ttl))
        self.model.leases[lease.id] = Leased(ttl, self.clock() + ttl)

    @rule(number=picks)
    def keepalive(self, number: int) -> None:
        lease = self.pick(number) or UNKNOWN
        known = self.model.leases.get(lease)
        assert self.run(self.store.lease_keepalive(lease)) == (known.ttl if known else 0)
        if known:
            known.deadline, known.noted = self.clock() + known.ttl, None

    @rule(number=picks)
    def revoke(self, number: int) -> None:
        lease = self.pick(number) or UNKNOWN
        if lease not in self.model.leases:
            with pytest.raises(LeaseNotFound):
                self.run(self.store.lease_revoke(lease))
            return
        self.run(self.store.lease_revoke(lease))
        self.model.revoke({lease})
        self.model.commit()

    @rule(seconds=st.sampled_from([1, 5, 9, 10, 50, 99, 300, 700]))
    def time_passes(self, seconds: int) -> None:
        async def call() -> None:
            self.clock.advance(seconds)
            await self.store.expire_due()
            await self.store.note_due()

        self.run(call())
        model, now = self.model, self.clock()
        model.revoke({lease for lease, leased in model.leases.items() if leased.deadline <= now})
        model.commit()
        if now >= model.next_note:
            model.next_note = now + EVERY
            for leased in model.leases.values():
                if leased.ttl > LONG:
                    leased.noted = math.ceil(leased.deadline - now)

    # ---- the store itself

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        revision = self.model.revision - back
        if revision <= self.model.compact_revision:
            with pytest.raises(Compacted):
                self.run(self.store.compact(revision))
            return
        self.run(self.store.compact(revision))
        self.model.compact_revision = revision

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        """A kill is the files as they are while the store is open."""
        old = self.place / str(self.lives)
        if kill:
            self.lives += 1
            shutil.copytree(old, self.place / str(self.lives))
        self.close()
        self.open()
        for leased in self.model.leases.values():
            leased.deadline = self.clock() + (leased.ttl if leased.noted is None else leased.noted)

    @rule(at=st.sampled_from(RANGES), back=st.integers(0, 40))
    def watch_from_the_past(self, at: tuple[bytes, bytes], back: int) -> None:
        start = max(1, self.model.revision + 1 - back)

        def covered(batch: Changes) -> Changes:
            return [each for each in batch if covers(*at, each[0])]

        wanted = [
            (r, covered(batch)) for r, batch in self.model.history.items() if r >= start and covered(batch)
        ]

        async def read() -> list[tuple[int, Changes]]:
            async with self.store.watch(*at, from_revision=start) as batches:
                found = [await anext(batches) for _ in wanted]
            return [(batch.revision, changes(batch)) for batch in found]

        if start < self.model.compact_revision:
            with pytest.raises(Compacted):
                self.run(read())
        else:
            assert self.run(read()) == wanted

    # ---- what always holds

    @invariant()
    def the_store_is_the_model(self) -> None:
        if not hasattr(self, "store"):
            return

        async def look() -> None:
            model = self.model
            found = await self.store.range(b"", b"\0")
            assert list(found.kvs) == [model.kvs[key] for key in sorted(model.kvs)]
            assert found.revision == model.revision
            assert sorted(self.store.lease_ids()) == sorted(model.leases)
            for lease, leased in model.leases.items():
                assert await self.store.lease_ttl(lease) == (leased.ttl, leased.deadline - self.clock())
            wanted = [(r, batch) for r, batch in model.history.items() if r >= self.live_from]
            while len(self.seen) < len(wanted):
                self.told.clear()
                await self.told.wait()
            assert [(batch.revision, changes(batch)) for batch in self.seen] == wanted

        self.run(asyncio.wait_for(look(), 20))

    def close(self) -> None:
        async def end() -> None:
            await self.store.close()
            await self.task

        self.run(end())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close()
        self.runner.close()
        shutil.rmtree(self.place)


def agrees(examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None
    )
    run_state_machine_as_test(StoreMachine, settings=chosen)


def test_any_calls_agree_with_the_model() -> None:
    agrees(examples=6, steps=25)


@pytest.mark.slow
def test_many_calls_agree_with_the_model() -> None:
    agrees(examples=150, steps=60)
