"""Raw keys below HTTP (what HTTP shows is in tests/discovery/api/test_v2keys.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from discovery.errors import Conflict, NotFound
from discovery.kv.contract import KV, Compare, LeaseNotFound, Op, Put, TxnResult, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.raw_keys import IN_ORDER
from tests.support.api import running_parts

KEY = b"/skydns/internal/discovery/web/i1"
QUEUE = b"/skydns/queue"


class Refused(Exception):
    pass


class Meddled(EmbeddedStore):
    """The real store; before the next transactions it does what `before` says, one each."""

    def __init__(self, path: Path, **named: object) -> None:
        super().__init__(path, **named)  # type: ignore[arg-type]  # as they came
        self.before: list[str] = []

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        match self.before.pop(0) if self.before else "":
            case "fail":
                raise Unavailable("the disk is full")
            case "put":
                await self.put(KEY, b"theirs")
            case "queue":
                await self.put(IN_ORDER, b"")
            case "revoke":
                await self.lease_revoke(next(op.lease for op in then if isinstance(op, Put)))
        return await super().txn(when, then, otherwise, grant_ttl=grant_ttl)


async def test_no_lease_is_left_by_a_put_that_fails(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Meddled) as parts:
        store, raw = parts.store, parts.registry.raw
        assert isinstance(store, Meddled)

        def unless_theirs(held: KV | None) -> None:
            if held is not None:
                raise Refused

        store.before = ["fail"]
        with pytest.raises(Unavailable):
            await raw.put(KEY, b"ours", 60)
        store.before = ["put"]
        with pytest.raises(Refused):
            await raw.put(KEY, b"ours", 60, check=unless_theirs)
        store.before = ["put"] * 16
        with pytest.raises(Conflict):
            await raw.put(KEY, b"ours", 60)
        store.before = ["fail"]
        with pytest.raises(Unavailable):
            await raw.put_in_order(QUEUE, b"ours", 60)
        store.before = ["queue"] * 16
        with pytest.raises(Conflict):
            await raw.put_in_order(QUEUE, b"ours", 60)
        assert await parts.leases() == 0


async def test_a_check_is_asked_again_after_a_lost_race(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Meddled) as parts:
        store, raw = parts.store, parts.registry.raw
        assert isinstance(store, Meddled)
        seen: list[bytes | None] = []
        store.before = ["put"]
        await raw.put(KEY, b"ours", 0, check=lambda held: seen.append(held.value if held else None))
        store.before = ["put"]
        await raw.delete(KEY, check=lambda held: seen.append(held.value if held else None))
        assert seen == [None, b"theirs", b"ours", b"theirs"]


async def test_a_lease_that_ends_under_a_put_is_replaced(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Meddled) as parts:
        store, raw = parts.store, parts.registry.raw
        assert isinstance(store, Meddled)
        store.before = ["revoke"]
        done = await raw.put(KEY, b"ours", 60)
        assert await store.lease_ttl(done.kv.lease) == (60, 60)
        assert await parts.leases() == 1


async def test_a_refresh_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        raw = parts.registry.raw
        with pytest.raises(NotFound):
            await raw.put(KEY, None, 60)
        put = await raw.put(KEY, b"{}", 60)
        parts.clock.advance(40)
        kept = await raw.put(KEY, None, 60)
        assert (kept.kv, kept.lease_ttl, kept.replaced_left) == (put.kv, 60, 20)
        assert (await parts.store.status()).revision == put.kv.mod_revision
        longer = await raw.put(KEY, None, 90)
        assert (longer.kv.value, longer.kv.mod_revision, longer.lease_ttl) == (
            b"{}",
            put.kv.mod_revision + 1,
            90,
        )
        with pytest.raises(LeaseNotFound):
            await parts.store.lease_ttl(put.kv.lease)


async def test_names_in_order_never_come_twice(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Meddled) as parts:
        store, raw = parts.store, parts.registry.raw
        assert isinstance(store, Meddled)
        names = []
        for meddling in ([], ["queue"], ["put"], ["queue", "queue"]):
            store.before = list(meddling)
            done = await raw.put_in_order(QUEUE, b"x", 0)
            names.append(done.kv.key)
            await raw.delete(done.kv.key)
        assert names == sorted(set(names))
