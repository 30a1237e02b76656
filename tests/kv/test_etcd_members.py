"""The members of a cluster by their own word, each asked on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.kv.contract import Unavailable
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access
from discovery.kv.etcd_members import follow_members
from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster, free_ports
from tests.support.etcd_store import eventually, opened
from tests.support.node import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: EtcdCluster) -> Iterator[EtcdCluster]:
    _three.revive()
    yield _three
    _three.revive()


async def test_each_member_tells_its_role_and_state(three: EtcdCluster) -> None:
    async with opened(three) as store:
        revision = await store.put(b"/a", b"1")
        members = await store.members()
        assert {member.name: member.url for member in members} == {
            member.name: member.client for member in three.members
        }
        leader = three.leader().name
        for member in members:
            assert member.role == ("leader" if member.name == leader else "follower")
            assert member.error == ""
            assert member.version.startswith("3.")
            assert member.revision in (revision - 1, revision)  # a follower may lag
            assert member.size >= member.size_in_use > 0
            assert member.round_trip is not None
            assert 0 < member.round_trip < 1.5
        status = await store.status()
        assert (status.leader, sorted(status.members)) == (leader, ["m0", "m1", "m2"])
        assert (status.revision, status.errors) == (revision, [])


async def test_who_lists_the_members_goes_to_the_others_when_the_known_one_dies(three: EtcdCluster) -> None:
    known, *_ = three.members
    async with opened(Access([known.client])) as store:
        await store.members()
        known.kill()
        await eventually(lambda: store.put(b"/a", b"1"))  # the leader may have been the one killed
        assert store._endpoints.urls[0] != known.client


async def test_one_that_is_gone_or_hangs_hides_no_other(three: EtcdCluster) -> None:
    gone, hung, _ = three.members
    async with opened(three) as store:
        await store.put(b"/a", b"1")
        gone.kill()
        members = {member.name: member for member in await store.members()}
        assert len(members) == 3
        assert "onnect" in members["m0"].error
        assert (members["m0"].role, members["m0"].round_trip, members["m0"].url) == ("", None, gone.client)
        assert members["m1"].round_trip is not None
        gone.start()
        await asyncio.to_thread(gone.until_healthy)
        hung.pause()
        answer: dict[str, str] = {}

        async def ask() -> None:
            answer.update({member.name: member.error for member in await store.members()})

        await eventually(ask)
        assert "in time" in answer["m1"]
        assert answer["m2"] == "" or "no leader" in answer["m2"]  # an election may be on


async def test_a_member_that_sees_no_leader_says_so(three: EtcdCluster) -> None:
    left, *others = three.members
    async with opened(three) as store:
        await store.put(b"/a", b"1")
        for member in others:
            member.kill()

        async def alone() -> None:
            members = {member.name: member for member in await store.members()}
            if "no leader" not in members[left.name].error:
                raise Unavailable("not yet")
            assert all(members[other.name].error for other in others)

        await eventually(alone)


async def test_a_member_that_is_known_by_no_address_here_is_listed(three: EtcdCluster) -> None:
    client, peer, metrics = (f"http://127.0.0.1:{port}" for port in free_ports(3))
    add = ["member", "add", "m3", f"--peer-urls={peer}", "--learner"]
    # etcd wants all members to have been there for a while.
    wait_for(lambda: "added" in three.ctl(*add, check=False), 60, "a member may be added")
    initial = ",".join(f"{member.name}={member.peer}" for member in three.members) + f",m3={peer}"
    flags = ["--initial-cluster", initial, "--initial-cluster-state", "existing"]
    learner = EtcdMember("m3", three.members[0].data.parent, client, peer, metrics, flags)
    try:
        async with opened(three) as store:
            (unstarted,) = [member for member in await store.members() if member.name == ""]
            assert (unstarted.url, unstarted.error) == ("", "none of its addresses is known here")
            learner.start()
            await asyncio.to_thread(learner.until_healthy)
            await follow_members(store._endpoints)
            assert set(store._endpoints.urls) == set(three.endpoints)
        async with opened(Access([*three.endpoints, client])) as store:
            members = {member.name: member for member in await store.members()}
            assert members["m3"].role == "learner"
            while store._endpoints.urls[0] != client:  # it takes no calls, so another one does
                store._endpoints.leave(store._endpoints.current, "the learner is wanted")
            await store.put(b"/a", b"1")
            assert store._endpoints.urls[0] != client
    finally:
        ids = {line.split(", ")[2]: line.split(", ")[0] for line in three.ctl("member", "list").splitlines()}
        three.ctl("member", "remove", ids.get("m3") or ids[""])
        learner.kill()


async def follows(store: EtcdStore, member: EtcdMember) -> None:
    if member.client not in store._endpoints.urls:
        raise Unavailable(f"{member.client} is not known")


async def test_a_member_that_says_its_address_late_is_known_within_seconds(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path, 3)
    first, second, late = cluster.members
    try:
        for member in (first, second):
            member.start()
        for member in (first, second):
            await asyncio.to_thread(member.until_healthy)
        async with opened(Access([first.client])) as store:
            await eventually(lambda: follows(store, second), 10)
            late.start()
            await asyncio.to_thread(late.until_healthy)
            await eventually(lambda: follows(store, late), 10)
    finally:
        cluster.close()
