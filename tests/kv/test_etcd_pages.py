"""Ranges of any size: pages of one revision, smaller where they are too large, anew where they are compacted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from discovery.kv import etcd_pages
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Compare, Op, Put, RangeResult, Target, Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import MAX_ANSWER, RANGE, A, Access, Endpoints, Method, Q
from discovery.kv.etcd_history import History
from discovery.kv.etcd_pages import ATTEMPTS, read_range
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("one")) as cluster:
        yield cluster


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_pages, "PAGE", 3)


async def test_an_answer_over_grpc_s_own_limit_is_read(cluster: EtcdCluster) -> None:
    async with opened(cluster) as store:
        for number in range(5):
            await store.put(b"/five/%d" % number, bytes(1_000_000))
        begun = cluster.members[0].started("Range")
        found = await store.range(b"/five/", b"/five0")
        assert cluster.members[0].started("Range") - begun == 1
        assert sum(len(kv.value) for kv in found.kvs) == 5_000_000 > 4 << 20


async def test_a_page_over_our_limit_is_read_in_smaller_ones(cluster: EtcdCluster) -> None:
    count, size = 50, 1_400_000
    async with opened(cluster) as store:
        for number in range(count):
            await store.put(b"/large/%03d" % number, b"%03d" % number * (size // 3))
        begun = cluster.members[0].started("Range")
        found = await store.range(b"/large/", b"/large0")
        asked = cluster.members[0].started("Range") - begun
        assert count * size > MAX_ANSWER
        assert asked > 2
        assert [kv.value[:3] for kv in found.kvs] == [b"%03d" % number for number in range(count)]
        assert not found.more
        await store.delete(b"/large/", b"/large0")


@pytest.mark.usefixtures("small_pages")
async def test_the_limit_counts_over_all_pages(cluster: EtcdCluster) -> None:
    async with opened(cluster) as store:
        for number in range(7):
            await store.put(b"/seven/%d" % number, b"%d" % number)

        async def read(limit: int) -> tuple[int, bool]:
            found = await store.range(b"/seven/", b"/seven0", limit=limit)
            assert [kv.value for kv in found.kvs] == [b"%d" % number for number in range(len(found.kvs))]
            return len(found.kvs), found.more

        assert [await read(limit) for limit in (0, 1, 3, 4, 6, 7, 8)] == [
            (7, False),
            (1, True),
            (3, True),
            (4, True),
            (6, True),
            (7, False),
            (7, False),
        ]
        keys = await store.range(b"/seven/", b"/seven0", keys_only=True, stale_ok=True)
        assert [kv.value for kv in keys.kvs] == [b""] * 7


@pytest.mark.usefixtures("small_pages")
async def test_all_pages_are_of_one_revision(cluster: EtcdCluster) -> None:
    async with opened(cluster) as store:

        async def write(number: int) -> None:
            ops: Sequence[Op] = [Put(b"/equal/%d" % key, b"%d" % number) for key in range(10)]
            await store.txn([], ops)

        async def read() -> None:
            while not writing.done():
                found = await store.range(b"/equal/", b"/equal0")
                assert len({kv.value for kv in found.kvs}) == 1
                assert max(kv.mod_revision for kv in found.kvs) <= found.revision

        async def write_all() -> None:
            for number in range(1, 100):
                await write(number)

        await write(0)
        writing = asyncio.create_task(write_all())
        await asyncio.gather(writing, *(read() for _ in range(3)))


class Compacting(Endpoints):
    """`times` pages are each followed by a write and a compaction, as if by another client."""

    store: EtcdStore
    times = 0

    async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool, leader: bool = True) -> A:
        answer = await super().call(method, request, repeatable=repeatable, leader=leader)
        if method is RANGE and self.times and isinstance(answer, wire.RangeResponse) and answer.more:
            self.times -= 1
            await self.store.compact(await self.store.put(b"/compacted/", b""))
        return answer


async def read_compacted(cluster: EtcdCluster, times: int) -> RangeResult:
    async with opened(cluster) as store:
        for number in range(7):
            await store.put(b"/compacted/%d" % number, b"")
        endpoints = Compacting(Access(cluster.endpoints))
        endpoints.store = store
        endpoints.times = times
        try:
            request = wire.RangeRequest(key=b"/compacted/", range_end=b"/compacted0")
            return await read_range(endpoints, History(endpoints, lambda: None), request)
        finally:
            await endpoints.close()


@pytest.mark.usefixtures("small_pages")
async def test_what_is_compacted_under_the_read_is_read_anew(cluster: EtcdCluster) -> None:
    found = await read_compacted(cluster, ATTEMPTS - 1)
    assert len(found.kvs) == 8
    assert len({kv.key for kv in found.kvs}) == 8
    with pytest.raises(Unavailable, match="compacted faster"):
        await read_compacted(cluster, 99)


async def test_a_read_of_an_old_revision_is_never_mixed_with_a_comparison(cluster: EtcdCluster) -> None:
    """The revision that a read tells is good for a compare-and-swap."""
    async with opened(cluster) as store:
        await store.put(b"/cas", b"1")
        found = await store.range(b"/cas")
        same = Compare(b"/cas", Target.MOD, "=", found.kvs[0].mod_revision)
        assert (await store.txn([same], [Put(b"/cas", b"2")])).succeeded
        assert not (await store.txn([same], [Put(b"/cas", b"3")])).succeeded
