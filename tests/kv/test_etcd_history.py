"""Which history a cluster's revisions belong to: replaced, restored, moved; and the base that raises them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import BASE_KEY, Corrupt, FutureRevision, Store
from discovery.kv.etcd_endpoints import TXN, A, Access, Endpoints, Method, Q
from discovery.kv.etcd_history import History
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import eventually, opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "one") as cluster:
        yield cluster


class Seen(History):
    """`changes`: how often it said that the history is another."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(endpoints, self._count)
        self.changes = 0

    def _count(self) -> None:
        self.changes += 1


@asynccontextmanager
async def history_of(cluster: EtcdCluster) -> AsyncIterator[Seen]:
    endpoints = Endpoints(Access(cluster.endpoints))
    try:
        yield Seen(endpoints)
    finally:
        await endpoints.close()


def revision_of(cluster: EtcdCluster) -> int:
    """etcd's own count."""
    cluster.put("/mark", "")
    return int(
        cluster.ctl("get", "/mark", "--write-out", "fields").partition('"ModRevision" : ')[2].split()[0]
    )


async def test_another_leader_or_a_restart_is_no_other_history(cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    async with history_of(cluster) as history:
        assert history.name == ""
        before = await history.look()
        name = history.name
        for _ in range(2):
            member.stop()
            member.start()
            await asyncio.to_thread(member.until_healthy)  # its term is greater by one each time
            await eventually(history.look)
        assert (history.name, history.changes) == (name, 0)
        await history.confirm(name, before + 1)


async def test_another_cluster_on_the_same_port_is_another_history(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    async with history_of(cluster) as history:
        await history.look()
        name = history.name
        await asyncio.to_thread(cluster.replace, tmp_path / "another")
        await eventually(history.look)
        assert history.changes == 1
        assert history.name != name
        with pytest.raises(FutureRevision):
            await history.confirm(name, 1)
        await history.confirm(history.name, 1)


async def test_a_restored_copy_is_another_history_though_its_id_is_the_same_and_it_has_grown(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    (member,) = cluster.members
    member.stop()
    member.start()  # the second term; a restored copy begins with its first again
    member.until_healthy()
    async with history_of(cluster) as history:
        cluster.put("/a", "1")
        cluster.ctl("snapshot", "save", str(tmp_path / "copy"))
        cluster.put("/a", "2")
        held = await history.look()
        name, cluster_id = history.name, history._cluster
        await asyncio.to_thread(cluster.restore, tmp_path / "copy", tmp_path / "restored")
        for number in range(5):
            cluster.put("/other", str(number))
        assert revision_of(cluster) > held
        await eventually(history.look)
        assert history._cluster == cluster_id
        assert history.changes == 1
        with pytest.raises(FutureRevision):
            await history.confirm(name, held + 1)


async def test_a_revision_that_the_store_has_not_reached_is_another_history(cluster: EtcdCluster) -> None:
    async with history_of(cluster) as history:
        revision = await history.look()
        await history.confirm("", revision + 1)
        with pytest.raises(FutureRevision, match="read the state anew"):
            await history.confirm("", revision + 2)


async def test_advancing_raises_all_revisions_and_nothing_else(cluster: EtcdCluster) -> None:
    async with opened(cluster) as store:
        first = await store.put(b"/a", b"1")
        await store.advance(first - 1)
        assert cluster.ctl("get", BASE_KEY.decode()) == ""  # it is greater already
        await store.advance(5000)
        found = await store.range(b"/a")
        assert found.revision > 5000
        (kv,) = found.kvs
        assert (kv.value, kv.version) == (b"1", 1)
        assert kv.mod_revision <= found.revision
        following = await store.put(b"/a", b"2")
        assert following > found.revision
        assert (await store.range(b"/a")).kvs[0].mod_revision == following
        async with store.watch(b"/a", from_revision=kv.mod_revision) as batches:
            assert [(await anext(batches)).revision for _ in range(2)] == [kv.mod_revision, following]
        assert (await store.status()).revision == following
        assert revision_of(cluster) < 100  # etcd's own go on as before


async def test_two_nodes_that_advance_at_once_agree(cluster: EtcdCluster) -> None:
    async with opened(cluster) as one, opened(cluster) as two:
        stores: list[Store] = [one, two, one, two]
        await asyncio.gather(one.put(b"/a", b""), two.put(b"/a", b""))
        await asyncio.gather(*(store.advance(5000 - 1000 * n) for n, store in enumerate(stores)))
        first = await one.put(b"/a", b"")
        assert first > 5000
        await two.advance(5000)  # as a node does that finds less than it has seen
        second = await two.put(b"/a", b"")
        assert second == first + 1


async def test_a_base_that_was_raised_meanwhile_is_not_lowered(cluster: EtcdCluster) -> None:
    class Between(Endpoints):
        """Another node raises it between the read and the write."""

        is_done = False

        async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool, leader: bool = True) -> A:
            if method is TXN and not self.is_done:
                self.is_done = True
                await other.advance(5000)
            return await super().call(method, request, repeatable=repeatable, leader=leader)

    async with opened(cluster) as other:
        endpoints = Between(Access(cluster.endpoints))
        await History(endpoints, lambda: None).advance(2000)
        assert endpoints.is_done
        await endpoints.close()
        await other.advance(5000)
        assert cluster.ctl("get", BASE_KEY.decode(), "--print-value-only").strip() in ("4999", "4998")


async def test_a_base_that_another_node_raised_is_noticed_and_ends_the_watches(cluster: EtcdCluster) -> None:
    async with opened(cluster) as one, opened(cluster) as two:
        revision = await two.put(b"/a", b"")
        found = await two.range(b"/a")
        async with two.watch(b"/a", from_revision=revision, history=found.history) as batches:
            await anext(batches)
            await one.advance(5000)
            with pytest.raises(FutureRevision):
                await asyncio.wait_for(anext(batches), 20)
        assert (await two.range(b"/a")).revision > 5000


async def test_a_base_that_is_no_number_is_told_with_the_way_out(cluster: EtcdCluster) -> None:
    cluster.put(BASE_KEY.decode(), "many")
    async with opened(cluster) as store:
        with pytest.raises(Corrupt, match="/discovery/revision-base"):
            await store.put(b"/a", b"")
        cluster.put(BASE_KEY.decode(), "7000")
        assert await store.put(b"/a", b"") > 7000
