"""The etcd engine: the contract on one member and on three."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import Compare, InvalidRequest, NoSpace, Put, Range, Store, Target, Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from tests.support.api import until
from tests.support.contract_suite import Place, StoreContract
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("one")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


class EtcdPlace:
    """A prefix of its own on a cluster that all tests share; its leases live in real time."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self.prefix = b"/t%d/" % next(_numbers)

    @property
    def store(self) -> Store:
        return self._store

    async def elapse(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _OnCluster(StoreContract):
    cluster: EtcdCluster

    @asynccontextmanager
    async def place(self, tmp_path: Path) -> AsyncIterator[Place]:
        async with opened(self.cluster) as store:
            yield EtcdPlace(store)


class TestContractOnOneMember(_OnCluster):
    @pytest.fixture(autouse=True)
    def _use(self, one: EtcdCluster) -> None:
        self.cluster = one


class TestContractOnThreeMembers(_OnCluster):
    @pytest.fixture(autouse=True)
    def _use(self, three: EtcdCluster) -> None:
        self.cluster = three


# ---------------------------------------------------------------- leases


def leases(cluster: EtcdCluster) -> set[str]:
    return set(re.findall(r"^([0-9a-f]{8,})$", cluster.ctl("lease", "list"), re.M))


async def test_the_smallest_ttl_is_granted_in_etcd_s_measure(one: EtcdCluster) -> None:
    async with opened(one) as store:
        lease = await store.lease_grant(1)
        assert lease.ttl == 2  # seconds: one and a half election time-outs, rounded up
        assert await store.lease_keepalive(lease.id) == 2
        done = await store.txn([], [Put(b"/ttl", b"")], grant_ttl=1)
        assert done.lease is not None
        assert done.lease.ttl == 2


async def test_a_transaction_that_loses_leaves_no_lease_behind(one: EtcdCluster) -> None:
    async with opened(one) as store:
        await store.put(b"/taken", b"")
        before = leases(one)
        absent = Compare(b"/taken", Target.VERSION, "=", 0)
        lost = await store.txn([absent], [Put(b"/taken", b"1")], [Range(b"/taken")], grant_ttl=600)
        assert (lost.succeeded, lost.lease) == (False, None)
        with pytest.raises(InvalidRequest):  # more than the 128 operations of one transaction
            await store.txn([], [Put(b"/many/%d" % n, b"") for n in range(200)], grant_ttl=600)
        assert leases(one) == before
        won = await store.txn([], [Put(b"/taken", b"1")], grant_ttl=600)
        assert won.lease is not None
        assert leases(one) == before | {f"{won.lease.id:016x}"}


# ---------------------------------------------------------------- space


async def test_a_full_store_refuses_writes_and_status_says_what_to_do(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "small", flags=["--quota-backend-bytes", str(1 << 20)]) as cluster:
        async with opened(cluster) as store:
            lease = await store.lease_grant(100)
            revision = await store.put(b"/first", b"1")

            async def fill() -> None:
                for number in range(100):
                    await store.put(b"/fill/%d" % number, bytes(100_000))

            with pytest.raises(NoSpace, match="defrag"):
                await fill()
            with pytest.raises(NoSpace):
                await store.txn([], [Put(b"/a", bytes(100_000))], grant_ttl=100)
            assert (await store.range(b"/first")).kvs[0].mod_revision == revision
            store._keepalives.forget(lease.id)
            assert await store.lease_keepalive(lease.id) == 100
            (error,) = (await store.status()).errors
            assert "quota" in error
            await store.delete(b"/fill/", b"/fill0")
            await store.compact((await store.status()).revision)
            cluster.ctl("defrag")
            cluster.ctl("alarm", "disarm")
            await store.put(b"/a", bytes(1000))
            assert (await store.status()).errors == []


# ---------------------------------------------------------------- the end


async def test_closing_leaves_no_task_and_no_thread(one: EtcdCluster) -> None:
    tasks, threads = asyncio.all_tasks(), our_threads()
    store = EtcdStore(Access(one.endpoints))
    await store.start()
    revision = await store.put(b"/end", b"1")
    lease = await store.lease_grant(100)
    await store.lease_keepalive_many([lease.id + 1])
    ends: list[int] = []
    seen = asyncio.Event()

    async def follow() -> None:
        async with store.watch(b"/end", from_revision=revision) as batches:
            async for batch in batches:
                ends.append(batch.revision)
                seen.set()
        ends.append(0)

    following = asyncio.create_task(follow())
    await seen.wait()
    await store.close()
    await asyncio.wait_for(following, 5)
    assert ends == [revision, 0]
    for call in (store.range(b"/end"), store.put(b"/end", b""), store.lease_grant(9), store.status()):
        with pytest.raises(Unavailable, match="not open"):
            await call
    await until(lambda: asyncio.all_tasks() <= tasks)
    assert our_threads() <= threads


def our_threads() -> set[threading.Thread]:
    """All but grpc's own poller, which comes and goes with the objects that use it."""
    return {thread for thread in threading.enumerate() if "_poll_wrapper" not in thread.name}


async def test_it_opens_without_a_cluster_and_heals_by_itself(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "late", 1)
    async with opened(cluster) as store:
        with pytest.raises(Unavailable):
            await store.range(b"/a")
        with pytest.raises(Unavailable):
            await store.status()
        try:
            await asyncio.to_thread(cluster.start)
            async with asyncio.timeout(10):
                while True:
                    try:
                        await store.put(b"/a", b"1")
                        break
                    except Unavailable:
                        await asyncio.sleep(0.02)
        finally:
            cluster.close()
