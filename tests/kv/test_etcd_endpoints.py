"""The members of a cluster as addresses to call: fail-over, deadlines, quorum, and the end."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from discovery.errors import ConfigError
from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import PUT, RANGE, Access, Endpoints
from discovery.kv.etcd_members import follow_members
from tests.support.api import until
from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster, free_ports
from tests.support.etcd_store import eventually, opened
from tests.support.node import wait_for

with_etcd = [pytest.mark.cluster, pytest.mark.slow]
INTERNAL = ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]


# ---------------------------------------------------------------- which member


def test_the_list_follows_the_members_and_keeps_the_configured_ones() -> None:
    endpoints = Endpoints(Access(INTERNAL), shuffle=random.Random(1))
    in_use = endpoints.urls[0]
    endpoints.follow(["http://10.0.0.2:2379/", "http://10.0.0.3:2379"])
    assert set(endpoints.urls) == {*INTERNAL, "http://10.0.0.3:2379"}
    assert endpoints.urls[0] == in_use
    endpoints.follow(["http://10.0.0.4:2379"])
    assert set(endpoints.urls) == {*INTERNAL, "http://10.0.0.4:2379"}


def test_a_loopback_address_of_a_member_elsewhere_is_not_followed() -> None:
    endpoints = Endpoints(Access(INTERNAL))
    endpoints.follow(
        ["http://127.0.0.1:2379", "http://localhost:2379", "http://0.0.0.0:2379", "unix://x", ""]
    )
    assert set(endpoints.urls) == set(INTERNAL)
    here = Endpoints(Access(["http://127.0.0.1:2379"]))
    here.follow(
        ["http://127.0.0.1:2381", "https://127.0.0.1:2382"]
    )  # for the other scheme we have no credentials
    assert here.urls == ("http://127.0.0.1:2379", "http://127.0.0.1:2381")


async def test_moving_about_while_no_member_serves_is_told_but_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoints = Endpoints(Access(INTERNAL))
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            endpoints.leave(endpoints.current, "no leader")
    assert len(caplog.records) == 1
    assert endpoints.moves == 100
    await endpoints.close()


def test_not_all_nodes_begin_with_one_member() -> None:
    urls = [f"http://10.0.0.{number}:2379" for number in range(3)]
    assert {Endpoints(Access(urls), shuffle=random.Random(seed)).urls[0] for seed in range(20)} == set(urls)


@pytest.mark.parametrize(
    ("access", "field"),
    [
        (Access(["10.0.0.1:2379"]), "endpoints"),
        (Access(["http://10.0.0.1", "https://10.0.0.2"]), "endpoints"),
        (Access(INTERNAL, ca="/etc/ca.pem"), "ca"),
        (Access(["https://10.0.0.1"], ca="/no/such/file"), "ca"),
        (Access(["https://10.0.0.1"], cert="/etc/cert.pem"), "cert"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_setting(access: Access, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Endpoints(access)
    assert refused.value.field == f"store.etcd.{field}"


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: EtcdCluster) -> Iterator[EtcdCluster]:
    _three.revive()
    yield _three
    _three.revive()


async def steady_leader(cluster: EtcdCluster) -> tuple[EtcdMember, EtcdMember]:
    """(the leader, a follower), once no election is on: on a busy machine one may follow the start."""
    while True:
        leader = cluster.leader()
        await asyncio.sleep(0.3)
        if cluster.leader() is leader:
            return leader, next(member for member in cluster.members if member is not leader)


@asynccontextmanager
async def refusing(message: str) -> AsyncIterator[tuple[Endpoints, list[str]]]:
    """(two members that refuse every call with that, the calls that came)."""
    came: list[str] = []

    async def refuse(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        came.append(request.decode())
        await context.abort(grpc.StatusCode.UNAVAILABLE, message)

    servers, urls = [], []
    for _ in range(2):
        server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(refuse)
        handlers = {"Put": handler, "Range": handler}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("etcdserverpb.KV", handlers)])
        urls.append(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        servers.append(server)
    endpoints = Endpoints(Access(urls))
    try:
        yield endpoints, came
    finally:
        await endpoints.close()
        for server in servers:
            await server.stop(None)


@pytest.mark.parametrize(
    ("message", "maybe", "writes"),
    [("etcdserver: request timed out", True, 1), ("etcdserver: not leader", False, 2)],
)
async def test_only_a_write_that_cannot_have_happened_is_tried_elsewhere(
    message: str, maybe: bool, writes: int
) -> None:
    async with refusing(message) as (endpoints, came):
        with pytest.raises(Unavailable) as failed:
            await endpoints.call(PUT, wire.PutRequest(key=b"a"), repeatable=False)
        assert (len(came), failed.value.maybe_applied) == (writes, maybe)
        came.clear()
        with pytest.raises(Unavailable):
            await endpoints.call(RANGE, wire.RangeRequest(key=b"a"), repeatable=True)
        assert len(came) == 2  # a read does no harm


class TestMembersLost:
    pytestmark = with_etcd

    async def test_a_write_forwarded_to_a_hung_leader_ends_at_its_deadline(self, three: EtcdCluster) -> None:
        leader, follower = await steady_leader(three)
        async with opened(Access([follower.client])) as store:
            await store.put(b"/a", b"1")
            leader.pause()
            begin = time.monotonic()
            with pytest.raises(Unavailable) as failed:
                await store.put(b"/a", b"2")
            assert failed.value.maybe_applied
            assert time.monotonic() - begin < 3  # etcd itself gives up after 7 s

    async def test_a_hung_leader_of_ones_own_is_left(self, three: EtcdCluster) -> None:
        leader, _ = await steady_leader(three)
        async with opened(three) as store:
            while store._endpoints.urls[0] != leader.client:
                store._endpoints.leave(store._endpoints.current, "the leader is wanted")
            await store.put(b"/a", b"1")
            leader.pause()
            with pytest.raises(Unavailable) as failed:
                await store.put(b"/a", b"2")
            assert failed.value.maybe_applied
            assert store._endpoints.urls[0] != leader.client
            await eventually(lambda: store.put(b"/a", b"3"))

    async def test_a_killed_member_costs_no_read_and_writes_go_on(self, three: EtcdCluster) -> None:
        async with opened(three) as store:
            await store.put(b"/a", b"1")
            in_use = store._endpoints.urls[0]
            next(member for member in three.members if member.client == in_use).kill()
            await eventually(lambda: store.put(b"/a", b"2"), 10)
            assert (await store.range(b"/a")).kvs[0].value == b"2"
            assert store._endpoints.urls[0] != in_use

    async def test_without_a_quorum_calls_fail_fast_and_stale_reads_go_on(self, three: EtcdCluster) -> None:
        left, *others = three.members
        async with opened(three) as store:
            await store.put(b"/a", b"1")
            for member in others:
                member.kill()
            at_once = "no leader|Connection refused"  # of those that are dead
            alone = lambda: left.metric("etcd_server_has_leader") == 0  # noqa: E731
            await asyncio.to_thread(wait_for, alone, 20, "it sees no leader")
            with pytest.raises(Unavailable, match=at_once) as failed:
                await store.put(b"/a", b"2")
            assert not failed.value.maybe_applied  # refused at once, by itself: not a deadline that went by
            with pytest.raises(Unavailable, match=at_once):
                await store.range(b"/a")
            with pytest.raises(Unavailable, match=at_once):
                await store.lease_grant(10)
            with pytest.raises(Unavailable, match=at_once):
                async with store.watch(b"/a", from_revision=1):
                    pass
            stale = await store.range(b"/a", stale_ok=True)
            assert stale.kvs[0].value == b"1"

            async def refused() -> None:
                with pytest.raises(Unavailable):
                    await store.put(b"/a", b"2")

            async def read() -> None:
                assert (await store.range(b"/a", stale_ok=True)).kvs[0].value == b"1"

            # Calls that are refused everywhere, and move on, lead no other past the member that answers it.
            await asyncio.gather(*(each() for _ in range(30) for each in (refused, read)))
            others[0].start()
            await eventually(lambda: store.put(b"/a", b"3"))


class TestOneAlive:
    pytestmark = with_etcd

    async def test_a_call_asks_each_member_whatever_others_move_to(self, tmp_path: Path) -> None:
        dead = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
        with etcd_cluster(tmp_path / "alive") as cluster:
            endpoints = Endpoints(Access([dead[0], *cluster.endpoints, dead[1]]))
            endpoints._order = [dead[0], *cluster.endpoints, dead[1]]  # not shuffled
            call = asyncio.create_task(endpoints.call(RANGE, wire.RangeRequest(key=b"/a"), repeatable=True))
            await asyncio.sleep(0)  # it asks the first
            for url in (dead[0], *cluster.endpoints):
                endpoints.leave(endpoints.at(url), "another call was refused there")
            assert endpoints.urls[0] == dead[1]
            assert (await call).header.revision >= 1
            await endpoints.close()


class TestMembersAdded:
    pytestmark = with_etcd

    async def test_a_member_that_is_added_is_called_too(self, tmp_path: Path) -> None:
        with etcd_cluster(tmp_path / "first") as cluster:
            first = cluster.members[0]
            async with opened(Access([first.client])) as store:
                await store.put(b"/a", b"1")
                client, peer, metrics = (f"http://127.0.0.1:{port}" for port in free_ports(3))
                cluster.ctl("member", "add", "m1", f"--peer-urls={peer}")
                initial = [
                    "--initial-cluster",
                    f"m0={first.peer},m1={peer}",
                    "--initial-cluster-state",
                    "existing",
                ]
                added = EtcdMember("m1", tmp_path, client, peer, metrics, initial)
                added.start()
                try:
                    await asyncio.to_thread(added.until_healthy)
                    await follow_members(store._endpoints)
                    assert set(store._endpoints.urls) == {first.client, client}
                    first.pause()  # there is no quorum now, but the other one answers
                    found = await store.range(b"/a", stale_ok=True)
                    assert found.kvs[0].value == b"1"
                    assert store._endpoints.urls[0] == client
                    first.resume()
                finally:
                    added.kill()


# ---------------------------------------------------------------- the end


class TestTheEnd:
    pytestmark = with_etcd

    async def test_a_call_under_way_when_the_store_closes_is_told(self, three: EtcdCluster) -> None:
        leader, _ = await steady_leader(three)
        store = EtcdStore(Access([leader.client]))
        await store.start()
        await store.put(b"/a", b"1")
        leader.pause()
        write = asyncio.create_task(store.put(b"/a", b"2"))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(Unavailable) as failed:
            await write
        assert failed.value.maybe_applied

    async def test_nothing_is_connected_after_the_end(self, three: EtcdCluster) -> None:
        endpoints = Endpoints(Access(three.endpoints))
        request = wire.RangeRequest(key=b"/a")
        await endpoints.call(RANGE, request, repeatable=True)
        await endpoints.close()
        with pytest.raises(Unavailable, match="closed"):
            await endpoints.call(RANGE, request, repeatable=True)
        assert not endpoints._known

    async def test_a_cancelled_caller_leaves_nothing_behind(self, three: EtcdCluster) -> None:
        async with opened(Access([three.leader().client])) as store:
            await store.put(b"/a", b"1")
            tasks = asyncio.all_tasks()
            three.leader().pause()
            calls = [
                asyncio.create_task(call)
                for call in (
                    store.put(b"/a", b"2"),
                    store.range(b"/a"),
                    store.lease_keepalive(7),
                    store.lease_keepalive_many([8]),
                )
            ]
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in done)
            three.revive()
            await eventually(lambda: store.lease_keepalive(7))
        await until(lambda: asyncio.all_tasks() <= tasks)
