"""The rules of registering, below HTTP (what HTTP shows is in tests/discovery/api)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery import service
from discovery.errors import Conflict, InvalidField, NotFound, PreconditionFailed
from discovery.kv.contract import Compare, LeaseNotFound, Op, TxnResult, WatchBatch
from discovery.kv.embedded import EmbeddedStore
from discovery.raw_keys import own_lease_id
from discovery.registry import ALWAYS, Precondition, lease_text
from discovery.service import Service
from tests.support.api import Parts, running_parts

PATH = (b"internal", b"discovery", b"web", b"i1")
KEY = b"/skydns/internal/discovery/web/i1"
WEB = Service(host="10.0.0.1", port=80)


async def stored(parts: Parts, key: bytes = KEY) -> Service:
    kv = await parts.kv(key)
    assert kv is not None
    return service.read(kv.value)


async def test_the_value_says_whose_the_lease_is(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.registry.register(PATH, WEB, lease_ttl=15)
        kv = await parts.kv(KEY)
        assert kv is not None
        assert kv.value == b'{"host":"10.0.0.1","port":80,"lease_ttl":15,"own_lease":true}'
        shared = (await parts.registry.lease_grant(20)).id
        await parts.registry.register(PATH, WEB, lease=shared)
        assert (await stored(parts)) == Service(host="10.0.0.1", port=80, lease_ttl=20)
        await parts.registry.register(PATH, WEB, lease_ttl=0)
        assert (await stored(parts)) == WEB


async def test_a_foreign_records_lease_is_never_revoked(tmp_path: Path) -> None:
    """Nothing says that it was made for the record alone, however it looks."""
    async with running_parts(tmp_path) as parts:
        lease = (await parts.store.lease_grant(30)).id
        await parts.store.put(KEY, b'{"host":"10.0.0.1","lease_ttl":30}', lease=lease)
        await parts.registry.register(PATH, WEB)
        assert (await parts.store.lease_keys(lease)) == []
        await parts.store.put(KEY, b'{"host":"10.0.0.1"}', lease=lease)
        await parts.registry.deregister(PATH)
        assert (await parts.store.lease_keys(lease)) == []
        await parts.store.put(KEY, b"{}", lease=lease)
        await parts.registry.raw.delete(KEY)
        assert (await parts.store.lease_keys(lease)) == []


async def test_an_own_lease_that_ends_while_it_is_renewed_is_replaced(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        first = await parts.registry.register(PATH, WEB, lease_ttl=5)
        parts.clock.advance(6)  # over, and perhaps not swept yet: the key may still be there
        parts.store._leases._wheel.advance(parts.clock())
        again = await parts.registry.register(PATH, WEB, lease_ttl=5)
        assert again.lease != first.lease
        await parts.store.expire_due()
        await parts.caught_up()
        assert parts.view.record(PATH) is not None


async def test_a_lease_given_must_exist(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        with pytest.raises(LeaseNotFound, match="0000000000000abc"):
            await parts.registry.register(PATH, WEB, lease=0xABC)


class Racing(EmbeddedStore):
    """The real store; before each of the next `races` transactions another client puts the key."""

    races = 0

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        if self.races:
            self.races -= 1
            await self.put(KEY, b'{"host":"10.9.9.%d"}' % self.races)
        return await super().txn(when, then, otherwise, grant_ttl=grant_ttl)


async def test_a_lost_race_begins_anew(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Racing) as parts:
        racing, registry = parts.store, parts.registry
        assert isinstance(racing, Racing)
        racing.races = 3
        done = await registry.register(PATH, WEB)
        assert (done.created, done.service.host) == (False, "10.0.0.1")
        racing.races = 3
        with pytest.raises(PreconditionFailed):
            await registry.register(PATH, Service(), when=Precondition(if_match=frozenset({done.revision})))
        racing.races = 2
        await registry.deregister(PATH)
        racing.races, before = 3, await parts.leases()
        assert (await registry.raw.put(KEY, b"{}", 60)).lease_ttl == 60
        assert await parts.leases() == before + 1  # one for all attempts
        racing.races = 2
        held, _, _ = await registry.raw.delete(KEY)
        assert held.value == b'{"host":"10.9.9.0"}'


async def test_a_race_that_is_always_lost_is_told(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Racing) as parts:
        racing, registry = parts.store, parts.registry
        assert isinstance(racing, Racing)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: registry.register(PATH, WEB),
            lambda: registry.raw.put(KEY, b"{}", 0),
            lambda: registry.raw.delete(KEY),
            lambda: registry.deregister(PATH),
        ]
        for call in calls:
            await racing.put(KEY, b"{}")
            racing.races = 100
            with pytest.raises(Conflict):
                await call()


class Late(EmbeddedStore):
    """The real store; its watches bring nothing before `gate` is open."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(path, clock=clock)
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        async with super().watch(key, end, from_revision=from_revision) as batches:
            yield self._through_the_gate(batches)

    async def _through_the_gate(self, batches: AsyncIterator[WatchBatch]) -> AsyncIterator[WatchBatch]:
        async for batch in batches:
            await self.gate.wait()
            yield batch


async def test_every_write_waits_for_the_view(tmp_path: Path) -> None:
    async with running_parts(tmp_path, store_type=Late) as parts:
        store, registry = parts.store, parts.registry
        assert isinstance(store, Late)
        lease = (await registry.lease_grant(30)).id
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: registry.register(PATH, WEB),
            lambda: registry.deregister(PATH),
            lambda: registry.raw.put(KEY, b"{}", 0),
            lambda: registry.raw.delete(KEY),
            lambda: registry.register(PATH, WEB, lease=lease),
            lambda: registry.lease_revoke(lease),
            lambda: registry.raw.put(KEY, b"{}", 60),
            lambda: registry.raw.delete_tree(b"/skydns/internal"),
        ]
        for number, write in enumerate(writes):
            before, there = parts.view.revision, parts.view.record(PATH) is not None
            store.gate.clear()
            task = asyncio.ensure_future(write())
            while (await parts.kv(KEY) is not None) == there:
                continue  # until the store has it
            done, _ = await asyncio.wait([task], timeout=0.02)
            assert not done, number
            assert parts.view.revision == before
            store.gate.set()
            await task
            assert parts.view.revision > before
            assert (parts.view.record(PATH) is not None) != there


@pytest.mark.parametrize("there", [True, False])
async def test_a_view_that_is_late_decides_nothing(tmp_path: Path, there: bool) -> None:
    """What it has is taken for what is there, and the store tells that it is not."""
    async with running_parts(tmp_path, store_type=Late) as parts:
        store, registry = parts.store, parts.registry
        assert isinstance(store, Late)
        if not there:
            await store.put(KEY, b'{"host":"10.9.9.9"}')
            await parts.caught_up()
        store.gate.clear()
        if there:
            await store.put(KEY, b'{"host":"10.9.9.9"}')
        else:
            await store.delete(KEY)
        task = asyncio.ensure_future(registry.register(PATH, WEB, lease_ttl=0))
        while (kv := await parts.kv(KEY)) is None or kv.value != service.write(WEB):
            continue
        store.gate.set()
        done = await task
        assert (done.created, done.revision) == (not there, kv.mod_revision)
        record = parts.view.record(PATH)
        assert record is not None
        assert record.fields == WEB
        assert parts.view.expected == {}


async def test_what_was_written_is_not_read_again(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        done = await parts.registry.register(PATH, WEB)
        record = parts.view.record(PATH)
        assert record is not None
        assert record.fields is done.service
        assert parts.view.expected == {}


async def test_what_another_has_written_meanwhile_is_read(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        parts.view.expected[KEY] = b"{}", WEB
        await parts.store.put(KEY, b'{"host":"10.9.9.9"}')
        await parts.caught_up()
        record = parts.view.record(PATH)
        assert record is not None
        assert record.fields == Service(host="10.9.9.9")


async def test_of_registrations_at_once_all_are_kept(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        paths = [(*PATH[:-1], b"i%d" % number) for number in range(200)]
        done = await asyncio.gather(*(parts.registry.register(path, WEB) for path in paths))
        assert len({each.revision for each in done}) == 200
        assert parts.view.root.count == 200
        assert await parts.leases() == 200


async def test_a_wait_for_the_view_never_hangs_on_writes_elsewhere(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        for _ in range(20):
            await asyncio.gather(
                parts.store.put(b"/elsewhere", b"x"),
                parts.registry.register(PATH, WEB, lease_ttl=0),
                parts.store.put(b"/elsewhere", b"y"),
            )
            assert parts.view.record(PATH) is not None
            await asyncio.gather(parts.store.put(b"/elsewhere", b"z"), parts.registry.deregister(PATH))
            assert parts.view.record(PATH) is None


async def test_ttls_have_limits(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        for ttl in (-1, 86401):
            with pytest.raises(InvalidField):
                await parts.registry.register(PATH, WEB, lease_ttl=ttl)
        with pytest.raises(InvalidField):
            await parts.registry.lease_grant(0)


async def test_what_is_not_there(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        with pytest.raises(NotFound):
            await parts.registry.deregister(PATH)
        with pytest.raises(NotFound):
            await parts.registry.heartbeat(PATH)
        with pytest.raises(NotFound):
            await parts.registry.raw.delete(KEY)
        assert await parts.registry.raw.delete_tree(b"/skydns/internal") == 0
        with pytest.raises(LeaseNotFound):
            await parts.registry.lease_revoke(5)


async def test_deleting_a_tree_never_hangs_on_what_the_view_does_not_hold(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.store.put(b"/skydns", b"the prefix itself is no key of ours")
        async with asyncio.timeout(1):
            assert await parts.registry.raw.delete_tree(b"/skydns") == 0
        assert await parts.kv(b"/skydns") is not None


def test_preconditions() -> None:
    ALWAYS.check(0)
    ALWAYS.check(5)
    Precondition(if_match="*").check(5)
    Precondition(if_none_match="*").check(0)
    Precondition(if_match=frozenset({4, 5}), if_none_match=frozenset({4})).check(5)
    for wrong, revision in (
        (Precondition(if_match="*"), 0),
        (Precondition(if_match=frozenset({4})), 5),
        (Precondition(if_match=frozenset()), 5),
        (Precondition(if_none_match="*"), 5),
        (Precondition(if_none_match=frozenset({5})), 5),
    ):
        with pytest.raises(PreconditionFailed):
            wrong.check(revision)


def test_ids() -> None:
    assert lease_text(0xABC) == "0000000000000abc"
    for nonce in (0, (1 << 15) - 1):
        lease = own_lease_id(b"key", nonce)
        assert 0 < lease < 1 << 63
        assert lease >> 15 == own_lease_id(b"key", 0) >> 15
    assert own_lease_id(b"key", 0) != own_lease_id(b"kez", 0)
