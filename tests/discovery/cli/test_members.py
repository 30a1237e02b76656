"""`discovery cluster`: what it prints, and that what is wrong is one line and a status."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from discovery.cli.members import settings_of_new
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode, problem

MEMBER = {
    "id": "a1",
    "name": "n1",
    "url": "http://10.0.0.1:2379",
    "role": "leader",
    "version": "3.4.23",
    "healthy": True,
    "revision": 41,
    "size": 2_000_000,
    "size_in_use": 1_000_000,
    "round_trip_ms": 0.41,
    "error": "",
}
NODE = {
    "name": "n1",
    "addresses": ["10.0.0.1"],
    "http": ["http://10.0.0.1:8053"],
    "version": "0.1.0",
    "started_at": "2026-01-01T00:00:00.000Z",
    "this": True,
    "ready": True,
    "stale": False,
    "revision": 41,
    "lag": 0,
    "stale_seconds": 0.0,
    "round_trip_ms": None,
    "clock_offset_ms": None,
    "error": "",
}
OTHER = NODE | {"name": "n2", "this": False, "round_trip_ms": 0.73, "clock_offset_ms": -1.2, "lag": 2}
CLUSTER: dict[str, Any] = {
    "revision": 41,
    "nodes": [NODE, OTHER],
    "store": {"engine": "managed-etcd", "reachable": True, "errors": [], "members": [MEMBER]},
}
SEAT = {"id": "d4", "name": "", "peer": "http://10.0.0.4:2380", "learner": True}
HELD = {"id": "a1", "name": "n1", "peer": "http://10.0.0.1:2380", "learner": False}


def test_status_is_two_tables(run: Run) -> None:
    with HttpNode() as node:
        node.answers["GET", "/v1/cluster"] = CLUSTER
        status, out, err = run("cluster", "status", "--node", node.url)
        assert (status, err) == (0, "")
        nodes, members = (part.splitlines() for part in out.split("\n\n"))
        assert nodes[0].split()[:5] == ["NODE", "STATE", "VERSION", "REVISION", "LAG"]
        assert nodes[2].split()[:9] == ["n2", "ready", "0.1.0", "41", "2", "0.7", "ms", "-1.2", "ms"]
        assert members[1].split() == [
            *("n1", "a1", "leader", "healthy", "3.4.23", "41", "0", "0.4", "ms", "2.0", "MB"),
            "http://10.0.0.1:2379",
        ]
        status, out, _ = run("cluster", "status", "--node", node.url, "--json")
        assert (status, json.loads(out)) == (0, CLUSTER)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("nodes", 1, "error"), "it does not answer", "node n2: it does not answer"),
        (("nodes", 0, "stale"), True, "node n1: it answers from a view that is no longer kept up to date"),
        (("nodes", 0, "ready"), False, "node n1: it is not ready"),
        (("store", "members", 0, "healthy"), False, "member n1: it is not healthy"),
        (("store", "members", 0, "role"), "learner", "member n1: it does not vote yet"),
        (("store", "errors"), ["out of reach for 3.0 s: no leader"], "store: out of reach for 3.0 s"),
        (("store", "reachable"), False, "store: it is out of reach"),
    ],
)
def test_whatever_is_wrong_is_said_last_and_is_status_1(
    run: Run, path: tuple[str | int, ...], value: object, said: str
) -> None:
    cluster = copy.deepcopy(CLUSTER)
    place: Any = cluster
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with HttpNode() as node:
        node.answers["GET", "/v1/cluster"] = cluster
        status, out, err = run("cluster", "status", "--node", node.url)
        assert (status, err) == (1, "")
        assert out.split("\n\n")[-1].startswith(said)
        assert run("cluster", "status", "--node", node.url, "--json")[0] == 1


def test_what_add_prints_is_a_configuration_file(run: Run) -> None:
    with HttpNode() as node:
        node.answers["GET", "/v1/cluster"] = CLUSTER
        node.answers["POST", "/v1/cluster/members"] = {"member": SEAT, "others": [HELD]}
        status, out, err = run("cluster", "add", "http://10.0.0.4:2380", "--node", node.url)
        assert (status, err) == (0, "")
        member = {
            "client": "http://10.0.0.4:2379",
            "peer": "http://10.0.0.4:2380",
            "join": "http://10.0.0.1:2379",
        }
        assert yaml.safe_load(out) == {"store": {"engine": "managed-etcd", "member": member}}
        status, out, _ = run("cluster", "add", "http://10.0.0.4:2380", "--node", node.url, "--json")
        assert json.loads(out)["member"]["id"] == "d4"


def test_a_new_member_of_a_cluster_with_tls_needs_its_files() -> None:
    lines = settings_of_new(SEAT | {"peer": "https://[fd00::4]:2380"}, [])
    member = yaml.safe_load("\n".join(lines))["store"]["member"]
    assert member["client"] == "https://[fd00::4]:2379"
    assert list(member) == ["client", "peer", "join", "cert", "key", "ca"]


def test_remove_promote_and_defrag_say_what_was_done(run: Run) -> None:
    with HttpNode() as node:
        one = "/v1/cluster/members/n4"
        node.answers["DELETE", one] = {"member": SEAT | {"name": "n4"}, "others": [HELD]}
        status, out, _ = run("cluster", "remove", "n4", "--node", node.url)
        assert (status, out.splitlines()[0]) == (0, "n4 is removed; left: n1")
        node.answers["POST", f"{one}/promote"] = {"member": SEAT | {"name": "n4"}, "others": [HELD]}
        assert run("cluster", "promote", "n4", "--node", node.url)[:2] == (0, "n4 votes now\n")
        node.answers["POST", "/v1/cluster/defrag"] = {"done": ["n1: defragmented"], "undone": []}
        assert run("cluster", "defrag", "--node", node.url)[:2] == (0, "n1: defragmented\n")
        node.answers["POST", "/v1/cluster/defrag"] = {"done": [], "undone": ["n2: not defragmented: gone"]}
        assert run("cluster", "defrag", "--node", node.url)[:2] == (1, "n2: not defragmented: gone\n")


@pytest.mark.parametrize("words", ["status", "remove n9", "promote n9", "defrag", "snapshot new.db"])
def test_a_refusal_is_one_line_and_status_1(run: Run, words: str) -> None:
    with HttpNode() as node:
        for method in ("GET", "POST", "DELETE"):
            node.refusals.append((method, problem(409, "the cluster does not allow it")))
        status, out, err = run("cluster", *words.split(), "--node", node.url)
        assert (status, out, err) == (1, "", "discovery: the cluster does not allow it\n")
    status, out, err = run("cluster", *words.split(), "--node", "http://127.0.0.1:1")
    assert (status, out, err.count("\n")) == (1, "", 1)
