"""Members in and out on a real cluster: what changes, and what each refusal says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.errors import Conflict, InvalidField, NotFound
from discovery.kv.contract import ClusterStore, InvalidRequest, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.etcd_seats import meaning
from tests.support.etcd import EtcdCluster, etcd_cluster, free_ports
from tests.support.etcd_store import opened
from tests.support.node import wait_for


def test_a_refusal_that_nobody_knows_is_told_as_it_is() -> None:
    error = InvalidRequest("etcd refused the call: something new")
    assert meaning(error, "n1 is not removed") is error


def test_an_embedded_store_is_no_cluster(tmp_path: Path) -> None:
    assert not isinstance(EmbeddedStore(tmp_path), ClusterStore)


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: EtcdCluster) -> Iterator[EtcdCluster]:
    _three.revive()
    for line in _three.ctl("member", "list").splitlines():
        if "unstarted" in line:
            _three.ctl("member", "remove", line.split(",")[0])
    # etcd changes no members before all have been connected for 5 s, nor while one is not: it says so itself.
    unused = f"http://127.0.0.1:{free_ports(1)[0]}"

    def takes_one() -> bool:
        said = _three.ctl("member", "add", "x", f"--peer-urls={unused}", "--learner", check=False)
        found = re.search(r"Member (\w+) added", said)
        if found:
            _three.ctl("member", "remove", found[1])
        return bool(found)

    wait_for(takes_one, 60, "the cluster takes members")
    yield _three
    _three.revive()


def peer() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.cluster
@pytest.mark.slow
async def test_a_seat_is_given_and_taken(three: EtcdCluster) -> None:
    async with opened(three) as store:
        new = peer()
        added, *others = await store.add_member(new + "/")
        assert (added.name, added.peer, added.learner) == ("", new, True)
        assert sorted(seat.name for seat in others) == ["m0", "m1", "m2"]
        with pytest.raises(Conflict, match="is there already: start its node"):
            await store.add_member(new)
        with pytest.raises(Conflict, match="another member does not vote yet: wait"):
            await store.add_member(peer())
        with pytest.raises(Conflict, match="has not caught up with the leader: start its node"):
            await store.promote_member(added.id)
        with pytest.raises(Conflict, match="m1 is not promoted: it votes already"):
            await store.promote_member("m1")
        gone, *others = await store.remove_member(added.id)
        assert (gone.id, len(others)) == (added.id, 3)
        with pytest.raises(NotFound, match=f"no member {added.id}: it has m"):
            await store.remove_member(added.id)


@pytest.mark.cluster
@pytest.mark.slow
async def test_a_url_that_no_member_can_have_is_refused(three: EtcdCluster) -> None:
    async with opened(three) as store:
        for wrong in ("10.0.0.4:2380", "nonsense", "", "ftp://10.0.0.4:2380"):
            with pytest.raises(InvalidField, match="expected a URL such as"):
                await store.add_member(wrong)
        with pytest.raises(InvalidField, match="the other members are at URLs such as http://"):
            await store.add_member("https://10.0.0.4:2380")
        assert three.ctl("member", "list").count("\n") == 3


@pytest.mark.cluster
@pytest.mark.slow
async def test_what_would_cost_the_quorum_is_refused_in_clear_words(three: EtcdCluster) -> None:
    three.members[2].kill()
    async with opened(three) as store:
        with pytest.raises(Conflict, match="m1 is not removed: that would cost the quorum, since"):
            await store.remove_member("m1")
        with pytest.raises(Conflict, match="is not added: that would cost the quorum, since"):
            await store.add_member(peer())
        assert three.ctl("member", "list").count("\n") == 3


@pytest.mark.cluster
@pytest.mark.slow
async def test_the_last_member_stays_and_without_a_quorum_nothing_changes(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path, 1) as one:
        async with opened(one) as store:
            with pytest.raises(Conflict, match="m0 is not removed: that would cost the quorum"):
                await store.remove_member("m0")
            one.members[0].kill()
            with pytest.raises(Unavailable):
                await store.add_member(peer())
