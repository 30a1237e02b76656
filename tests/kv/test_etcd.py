"""The etcd engine: the contract on one member and on three."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import Store
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from tests.support.contract_suite import Place, StoreContract
from tests.support.etcd import EtcdCluster, etcd_cluster

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


@asynccontextmanager
async def opened(cluster: EtcdCluster) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(Access(cluster.endpoints))
    await store.start()
    try:
        yield store
    finally:
        await store.close()


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
