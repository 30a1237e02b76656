"""/v1/cluster: this node, the others, and the members of the store's cluster, whatever of them is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discovery import links
from discovery.errors import StoreError
from discovery.kv.embedded import EmbeddedStore
from discovery.nodes import NodeRecord
from tests.support.api import problem, running_api, until
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for

OTHER = NodeRecord("n2", ("10.0.0.2",), ("http://10.0.0.2:8053",), "1", "2024-01-01T00:00:00.000Z")


# ---------------------------------------------------------------- one machine


async def test_one_machine_is_one_node_and_no_members(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("GET", "/v1/cluster")
        revision = api.view.revision
        assert (answer.status, answer.body) == (
            200,
            {
                "revision": revision,
                "nodes": [
                    {
                        "name": "n1",
                        "addresses": ["127.0.0.1"],
                        "http": ["http://127.0.0.1:8053"],
                        "version": "0",
                        "started_at": "2023-11-14T22:13:20.250Z",
                        "this": True,
                        "ready": True,
                        "stale": False,
                        "revision": revision,
                        "lag": 0,
                        "stale_seconds": 0.0,
                        "round_trip_ms": None,
                        "clock_offset_ms": None,
                        "error": "",
                    }
                ],
                "store": {"engine": "embedded", "reachable": True, "errors": [], "members": []},
            },
        )
        assert (await api.call("HEAD", "/v1/cluster")).status == 200
        problem(await api.call("GET", "/v1/cluster?x=1"), 400, "invalid-field", "x")


async def test_before_the_first_load_and_while_stopping_it_is_not_ready(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        (node,) = (await api.call("GET", "/v1/cluster")).body["nodes"]
        assert (node["ready"], node["revision"]) == (False, 0)
        await api.feed.start()
        assert (await api.call("GET", "/v1/cluster")).body["nodes"][0]["ready"] is True
        api.parts.stopping = True
        assert (await api.call("GET", "/v1/cluster")).body["nodes"][0]["ready"] is False


async def test_without_the_store_it_says_so_and_for_how_long(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.close()
        await until(lambda: api.feed.lost)
        api.clock.advance(31)
        await until(lambda: api.view.stale)
        body = (await api.call("GET", "/v1/cluster")).body
        (node,) = body["nodes"]
        assert (node["ready"], node["stale"], node["stale_seconds"]) == (True, True, 31.0)
        assert "out of reach" in node["error"]
        assert body["store"]["reachable"] is False
        assert any("out of reach for 31.0 s" in error for error in body["store"]["errors"])
        assert len(body["store"]["errors"]) == len(set(body["store"]["errors"]))


async def test_the_others_are_told_as_they_were_found(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        api.parts.others = lambda: [OTHER]
        api.parts.link = lambda node: links.Link(0.0015, -0.25, True, False, 70, 3)
        this, other = (await api.call("GET", "/v1/cluster")).body["nodes"]
        assert (this["this"], other["this"]) == (True, False)
        assert other == {
            "name": "n2",
            "addresses": ["10.0.0.2"],
            "http": ["http://10.0.0.2:8053"],
            "version": "1",
            "started_at": "2024-01-01T00:00:00.000Z",
            "this": False,
            "ready": True,
            "stale": False,
            "revision": 70,
            "lag": 3,
            "stale_seconds": None,
            "round_trip_ms": 1.5,
            "clock_offset_ms": -250.0,
            "error": "",
        }
        api.parts.link = lambda node: links.Link(0.001, 0.0, True, False, 80, -4)
        this, other = (await api.call("GET", "/v1/cluster")).body["nodes"]
        assert (this["lag"], other["lag"]) == (4, 0)  # the other is ahead of the one that is asked
        api.parts.link = lambda node: links.Link(error="it does not answer")
        _, other = (await api.call("GET", "/v1/cluster")).body["nodes"]
        assert "it does not answer" in other["error"]
        assert (other["ready"], other["round_trip_ms"]) == (None, None)


class Faulty(EmbeddedStore):
    """The real store, with a fault that no engine is to have."""

    async def members(self) -> list[Any]:  # Any: none ever
        raise ValueError("a fault")


async def test_a_fault_is_not_taken_for_a_store_that_is_away(tmp_path: Path) -> None:
    assert not issubclass(ValueError, StoreError)
    async with running_api(tmp_path, store_type=Faulty) as api:
        assert (await api.call("GET", "/v1/cluster")).status == 500


# ---------------------------------------------------------------- over etcd


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "etcd", 3) as cluster:
        yield cluster


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.e2e
def test_members_are_told_one_by_one_with_and_without_a_quorum(three: EtcdCluster, tmp_path: Path) -> None:
    settings = ["store.engine=etcd", f"store.etcd.endpoints={three.endpoints}", "stale_after=1"]
    with running_node(tmp_path / "node", settings) as node:
        store = cluster_of(node)["store"]
        assert (store["engine"], store["reachable"], store["errors"]) == ("etcd", True, [])
        members = {member["name"]: member for member in store["members"]}
        assert set(members) == {"m0", "m1", "m2"}
        assert [name for name, member in members.items() if member["role"] == "leader"] == [
            three.leader().name
        ]
        assert all(member["healthy"] and member["round_trip_ms"] > 0 for member in members.values())

        for member in three.members[1:]:
            member.kill()
        wait_for(lambda: not cluster_of(node)["store"]["reachable"], 60, "it says that the store is away")
        wait_for(
            lambda: len(cluster_of(node)["store"]["members"]) == 3, 10, "the members are listed all the same"
        )
        store = cluster_of(node)["store"]
        members = {member["name"]: member for member in store["members"]}
        assert [name for name, member in members.items() if member["round_trip_ms"] is not None] == ["m0"]
        assert not any(member["healthy"] for member in members.values())
        assert store["errors"]
        assert node.call("GET", "/readyz?writes")[0] == 503
        assert node.call("GET", "/readyz")[0] == 200

        three.revive()
        wait_for(lambda: bool(cluster_of(node)["store"]["reachable"]), 60, "it heals by itself")
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, 60, "writes are taken again")


def cluster_of(node: RunningNode) -> Any:  # Any: JSON
    status, body = node.call("GET", "/v1/cluster")
    assert status == 200
    return body
