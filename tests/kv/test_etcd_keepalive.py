"""Keep-alives of many leases on one stream: memory, silence, a store that was replaced, and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import pytest

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import Unavailable
from discovery.kv.etcd_endpoints import Access, Endpoints
from discovery.kv.etcd_keepalive import KeepAlives
from tests.support.clock import FakeClock
from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster
from tests.support.etcd_store import eventually, opened


def with_etcd(test: T) -> T:
    marked: T = pytest.mark.cluster(pytest.mark.slow(test))
    return marked


ASKED = "grpc_server_msg_received_total"
RENEWALS = {"grpc_method": "LeaseKeepAlive"}
T = TypeVar("T", bound=Callable[..., object])
Context = grpc.aio.ServicerContext[wire.LeaseKeepAliveRequest, wire.LeaseKeepAliveResponse]


@pytest.fixture(scope="module")
def _one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("one")) as cluster:
        yield cluster


@pytest.fixture
def one(_one: EtcdCluster) -> Iterator[EtcdCluster]:
    _one.revive()
    yield _one
    _one.revive()


def renewals(member: EtcdMember) -> float:
    """How many leases it was asked to renew."""
    return member.metric(ASKED, **RENEWALS)


@with_etcd
async def test_ten_thousand_leases_are_renewed_on_one_stream(one: EtcdCluster) -> None:
    (member,) = one.members
    clock = FakeClock()
    async with opened(one, clock=clock) as store:
        leases = [(await store.lease_grant(600)).id]
        for _ in range(10):
            granted = await asyncio.gather(*(store.lease_grant(600) for _ in range(1000)))
            leases += [lease.id for lease in granted]
        clock.advance(300)
        streams, asked = member.started("LeaseKeepAlive"), renewals(member)
        assert await asyncio.gather(*map(store.lease_keepalive, leases)) == [600] * len(leases)
        assert await store.lease_keepalive_many(leases) == []
        assert member.started("LeaseKeepAlive") - streams == 1
        assert renewals(member) - asked == len(leases)


@with_etcd
async def test_within_a_tenth_of_the_ttl_the_answer_is_from_memory(one: EtcdCluster) -> None:
    (member,) = one.members
    clock = FakeClock()
    async with opened(one, clock=clock) as store:
        lease = await store.lease_grant(100)
        asked = renewals(member)
        clock.advance(9.9)
        assert await store.lease_keepalive(lease.id) == 100  # granted just now is as good as renewed
        assert renewals(member) - asked == 0
        clock.advance(0.2)
        assert await store.lease_keepalive(lease.id) == 100
        assert renewals(member) - asked == 1
        clock.advance(9.9)
        assert await store.lease_keepalive(lease.id) == 100
        assert await store.lease_keepalive_many([lease.id] * 3) == []
        assert renewals(member) - asked == 1
        clock.advance(0.2)
        assert await asyncio.gather(*(store.lease_keepalive(lease.id) for _ in range(5))) == [100] * 5
        assert renewals(member) - asked == 2  # who asks at once is answered at once


@with_etcd
async def test_those_that_are_gone_are_told(one: EtcdCluster) -> None:
    async with opened(one) as store:
        kept, gone = await store.lease_grant(100), await store.lease_grant(100)
        await store.lease_revoke(gone.id)  # renewed just now, yet memory must not say so
        assert await store.lease_keepalive(gone.id) == 0
        assert await store.lease_keepalive_many([kept.id, gone.id, 4711]) == [gone.id, 4711]
        assert await store.lease_keepalive_many([]) == []


@with_etcd
async def test_nothing_is_acknowledged_unheard(one: EtcdCluster) -> None:
    (member,) = one.members
    clock = FakeClock()
    async with opened(one, clock=clock) as store:
        lease = await store.lease_grant(100)
        clock.advance(50)
        assert await store.lease_keepalive(lease.id) == 100
        clock.advance(50)
        member.pause()
        with pytest.raises(Unavailable):
            await store.lease_keepalive(lease.id)
        with pytest.raises(Unavailable):
            await store.lease_keepalive_many([lease.id])
        member.resume()
        await eventually(lambda: store.lease_keepalive(lease.id))
        assert await store.lease_keepalive(lease.id) == 100


@with_etcd
async def test_a_member_that_falls_silent_is_left_and_all_are_asked_again(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "three", 3) as cluster:
        clock = FakeClock()
        async with opened(cluster, clock=clock) as store:
            leases = [(await store.lease_grant(100)).id for _ in range(50)]
            clock.advance(50)
            assert await store.lease_keepalive_many(leases) == []
            clock.advance(50)
            at = store._endpoints.urls[0]
            in_use = next(member for member in cluster.members if member.client == at)
            in_use.pause()
            await eventually(lambda: store.lease_keepalive_many(leases))  # an election may be on
            assert store._endpoints.urls[0] != at


@with_etcd
async def test_another_leader_gives_every_lease_its_full_time(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "three", 3) as cluster:
        async with opened(cluster) as store:
            lease = await store.lease_grant(30)
            await asyncio.sleep(3)  # of real time, which etcd's leases live in
            assert (await store.lease_ttl(lease.id))[1] <= 27
            cluster.leader().kill()
            deadline = time.monotonic() + 20
            left = 0
            while left < 28:
                assert time.monotonic() < deadline
                try:
                    left = (await store.lease_ttl(lease.id))[1]
                except Unavailable:
                    await asyncio.sleep(0.05)


@with_etcd
async def test_after_the_store_was_replaced_the_leases_of_before_are_gone(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "one") as cluster:
        async with opened(cluster) as store:
            lease = await store.lease_grant(1000)
            other = await store.lease_grant(1000)
            assert await store.lease_keepalive(lease.id) == 1000  # from memory
            store._keepalives.forget_all()
            assert await store.lease_keepalive_many([lease.id, other.id]) == []  # on the stream
            assert store._looking is not None
            store._looking.cancel()  # so that the answer itself has to tell
            await asyncio.to_thread(cluster.replace, tmp_path / "another")
            store._keepalives.forget(lease.id)
            answers: list[int] = []
            await eventually(lambda: told(answers, store.lease_keepalive(lease.id)))
            assert answers == [0]
            assert await store.lease_keepalive(other.id) == 0  # memory of the store of before counts no more


# ---------------------------------------------------------------- a member that breaks in the middle


async def test_what_a_broken_stream_did_not_answer_is_asked_again_at_once() -> None:
    """Of two leases the first stream answers one and breaks; the second stream answers what it is asked."""
    streams: list[list[int]] = []

    async def keep_alive(
        requests: AsyncIterator[wire.LeaseKeepAliveRequest], context: Context
    ) -> AsyncIterator[wire.LeaseKeepAliveResponse]:
        streams.append([])
        async for request in requests:
            streams[-1].append(request.ID)
            if streams[0] == [1]:
                continue
            if len(streams) == 1:
                yield wire.LeaseKeepAliveResponse(ID=1, TTL=10)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the member goes")
            yield wire.LeaseKeepAliveResponse(ID=request.ID, TTL=10)

    async with against(keep_alive) as keepalives:
        first, second = await asyncio.gather(keepalives.renew(1), keepalives.renew(2))
        assert (first, second, streams) == (10, 10, [[1, 2], [2]])


async def test_a_question_that_is_written_answers_nobody_who_comes_later() -> None:
    """etcd may have renewed the lease long before its answer comes, as over a link that was cut one way."""
    asked: asyncio.Queue[int] = asyncio.Queue()
    let_go = asyncio.Semaphore(0)

    async def keep_alive(
        requests: AsyncIterator[wire.LeaseKeepAliveRequest], context: Context
    ) -> AsyncIterator[wire.LeaseKeepAliveResponse]:
        async for request in requests:
            asked.put_nowait(request.ID)
            await let_go.acquire()
            yield wire.LeaseKeepAliveResponse(ID=request.ID, TTL=10)

    async with against(keep_alive) as keepalives:
        early = asyncio.create_task(keepalives.renew(7))
        assert await asyncio.wait_for(asked.get(), 30) == 7
        late, later = (asyncio.create_task(keepalives.renew(7)) for _ in range(2))
        let_go.release()
        assert await asyncio.wait_for(early, 30) == 10
        assert await asyncio.wait_for(asked.get(), 30) == 7
        assert {late.done(), later.done()} == {False}
        let_go.release()
        assert (await asyncio.wait_for(late, 30), await asyncio.wait_for(later, 30)) == (10, 10)
        assert asked.empty()  # the two who came before it was written share one


@asynccontextmanager
async def against(
    keep_alive: Callable[
        [AsyncIterator[wire.LeaseKeepAliveRequest], Context], AsyncIterator[wire.LeaseKeepAliveResponse]
    ],
) -> AsyncIterator[KeepAlives]:
    """On a member that does nothing else, and this as it is told."""
    handler = grpc.stream_stream_rpc_method_handler(
        keep_alive, wire.LeaseKeepAliveRequest.FromString, wire.LeaseKeepAliveResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("etcdserverpb.Lease", {"LeaseKeepAlive": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoints = Endpoints(Access([f"http://127.0.0.1:{port}"]))

    async def see(header: wire.ResponseHeader) -> None:
        pass

    keepalives = KeepAlives(endpoints, FakeClock(), see)
    try:
        yield keepalives
    finally:
        await keepalives.close()
        await endpoints.close()
        await server.stop(None)


async def told(answers: list[int], call: object) -> None:
    answers.append(await call)  # type: ignore[misc]  # any awaitable


@with_etcd
async def test_who_waits_when_the_store_closes_is_told(one: EtcdCluster) -> None:
    (member,) = one.members
    async with opened(Access(one.endpoints)) as store:
        lease = await store.lease_grant(100)
        await store.lease_keepalive_many([lease.id + 1])  # the stream is there
        member.pause()
        waiting = asyncio.create_task(store.lease_keepalive(lease.id + 1))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await store.lease_keepalive(lease.id)


@with_etcd
async def test_closing_ends_the_stream_at_whatever_moment(one: EtcdCluster) -> None:
    """A stream that is being left for its silence at that very moment, too."""
    (member,) = one.members
    for wait in (1.4, 1.5, 1.6, 1.7):
        async with opened(one) as store:
            lease = await store.lease_grant(100)
            await store.lease_keepalive_many([lease.id + 1])
            member.pause()
            waiting = asyncio.create_task(store.lease_keepalive(lease.id + 1))
            await asyncio.sleep(wait)
            await asyncio.wait_for(store.close(), 5)
            with pytest.raises(Unavailable):
                await waiting
            member.resume()
