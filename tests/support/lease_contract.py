"""The contract's part on leases, as tests; and the place that all of the contract's tests run in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from discovery.kv.contract import (
    Compare,
    LeaseExists,
    LeaseNotFound,
    Put,
    Range,
    Store,
    Target,
    WatchBatch,
    prefix_end,
)


class Place(Protocol):
    """One open store for one test."""

    @property
    def store(self) -> Store: ...

    @property
    def prefix(self) -> bytes:
        """Under it there is nothing when the test begins."""

    async def elapse(self, seconds: float) -> None:
        """Lets this time pass for the store's leases."""


async def take(batches: AsyncIterator[WatchBatch], count: int) -> list[WatchBatch]:
    return [await anext(batches) for _ in range(count)]


def changes(batch: WatchBatch) -> list[tuple[bytes, bytes | None]]:
    """(key, value) of each event, None for a delete."""
    return [(event.kv.key, None if event.deleted else event.kv.value) for event in batch.events]


class LeaseContract:
    def place(self, tmp_path: Path) -> AbstractAsyncContextManager[Place]:
        raise AssertionError("a subclass gives the place")

    async def test_a_lease_is_granted_renewed_and_known(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store = place.store
            before = (await store.range(place.prefix)).revision
            lease = await store.lease_grant(60)
            assert lease.id > 0
            assert lease.ttl >= 60
            granted, remaining = await store.lease_ttl(lease.id)
            assert granted == lease.ttl
            assert lease.ttl - 2 <= remaining <= lease.ttl
            assert await store.lease_keepalive(lease.id) == lease.ttl
            assert list(await store.lease_keepalive_many([lease.id, 987_654_321])) == [987_654_321]
            assert (await store.range(place.prefix)).revision == before

    async def test_a_lease_that_is_not_there(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, gone = place.store, 123_456_789
            assert await store.lease_keepalive(gone) == 0
            for call in (store.lease_ttl, store.lease_keys, store.lease_revoke):
                with pytest.raises(LeaseNotFound):
                    await call(gone)
            with pytest.raises(LeaseNotFound):
                await store.put(place.prefix + b"a", b"", lease=gone)

    async def test_a_lease_id_can_be_chosen_once(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            chosen = (await place.store.lease_grant(60)).id
            with pytest.raises(LeaseExists):
                await place.store.lease_grant(60, chosen)
            await place.store.lease_revoke(chosen)
            assert (await place.store.lease_grant(60, chosen)).id == chosen
            await place.store.lease_revoke(chosen)

    async def test_a_revoke_deletes_its_keys_in_one_revision(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, p = place.store, place.prefix
            lease = await store.lease_grant(60)
            await store.put(p + b"stays", b"")
            await store.put(p + b"b", b"", lease=lease.id)
            last = await store.put(p + b"a", b"", lease=lease.id)
            assert list(await store.lease_keys(lease.id)) == [p + b"a", p + b"b"]
            await store.lease_revoke(lease.id)
            async with store.watch(p, prefix_end(p), from_revision=last + 1) as batches:
                batch = await anext(batches)
            assert (batch.revision, changes(batch)) == (last + 1, [(p + b"a", None), (p + b"b", None)])
            assert [kv.key for kv in (await store.range(p, prefix_end(p))).kvs] == [p + b"stays"]
            assert await store.lease_keepalive(lease.id) == 0

    async def test_a_put_moves_a_key_to_another_lease_or_none(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, p = place.store, place.prefix
            one, two = await store.lease_grant(60), await store.lease_grant(60)
            for name in (b"moved", b"freed"):
                await store.put(p + name, b"", lease=one.id)
            await store.put(p + b"moved", b"", lease=two.id)
            await store.put(p + b"freed", b"")
            await store.lease_revoke(one.id)
            kvs = (await store.range(p, prefix_end(p))).kvs
            assert [(kv.key, kv.lease) for kv in kvs] == [(p + b"freed", 0), (p + b"moved", two.id)]
            await store.lease_revoke(two.id)

    async def test_a_transaction_grants_the_lease_of_its_puts(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, p = place.store, place.prefix
            absent = Compare(p + b"a", Target.VERSION, "=", 0)
            made = await store.txn([absent], [Put(p + b"a", b""), Put(p + b"b", b"")], grant_ttl=60)
            assert made.lease is not None
            assert made.lease.ttl >= 60
            assert list(await store.lease_keys(made.lease.id)) == [p + b"a", p + b"b"]
            lost = await store.txn([absent], [Put(p + b"a", b"")], [Range(p + b"a")], grant_ttl=60)
            assert (lost.succeeded, lost.lease) == (False, None)
            assert await store.lease_keepalive(made.lease.id) == made.lease.ttl
            await store.lease_revoke(made.lease.id)
            assert not (await store.range(p, prefix_end(p))).kvs

    async def test_a_lease_ends_after_its_ttl_and_takes_its_keys(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, p = place.store, place.prefix
            lease = await store.lease_grant(2)
            last = await store.put(p + b"a", b"", lease=lease.id)
            async with store.watch(p, prefix_end(p), from_revision=last + 1) as batches:
                await place.elapse(lease.ttl + 1)
                assert changes(await anext(batches)) == [(p + b"a", None)]
            assert await store.lease_keepalive(lease.id) == 0
            with pytest.raises(LeaseNotFound):
                await store.lease_ttl(lease.id)

    async def test_a_renewed_lease_lives_on(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, key = place.store, place.prefix + b"a"
            lease = await store.lease_grant(3)
            await store.put(key, b"", lease=lease.id)
            for _ in range(3):
                await place.elapse(lease.ttl - 1)
                assert await store.lease_keepalive(lease.id) == lease.ttl
            assert len((await store.range(key)).kvs) == 1
            await store.lease_revoke(lease.id)
