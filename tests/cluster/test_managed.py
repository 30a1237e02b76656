"""Nodes that run their etcd themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.etcd import free_ports
from tests.support.node import RunningNode, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SERVICE = {"host": "10.0.0.1", "port": 80, "lease_ttl": 60}


def member_settings(name: str, client: int, peer: int, others: dict[str, int]) -> Sequence[str]:
    cluster = ", ".join(f"{each}: 'http://127.0.0.1:{port}'" for each, port in others.items())
    return [
        "store.engine=managed-etcd",
        f"node.name={name}",
        f"store.member.client=http://127.0.0.1:{client}",
        f"store.member.peer=http://127.0.0.1:{peer}",
        f"store.member.initial_cluster={{{cluster}}}",
    ]


@contextmanager
def three(tmp_path: Path) -> Iterator[list[RunningNode]]:
    ports = free_ports(6)
    peers = {f"n{number}": ports[2 * number + 1] for number in range(3)}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                running_node(tmp_path / name, member_settings(name, ports[2 * number], peers[name], peers))
            )
            for number, name in enumerate(peers)
        ]
        wait_for(
            lambda: all(node.call("GET", "/readyz?writes")[0] == 200 for node in nodes), 30, "all take writes"
        )
        yield nodes


def test_one_node_with_a_member_of_its_own_keeps_what_it_has_over_a_kill(tmp_path: Path) -> None:
    client, peer = free_ports(2)
    settings = member_settings("n1", client, peer, {})
    with running_node(tmp_path / "store", settings) as node:
        assert node.call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 201
        assert node.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"]
        node.kill()
    with running_node(tmp_path / "store", settings) as node:  # its etcd ended with it and begins again
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, 60, "it takes writes again")
        assert node.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"]
        assert node.call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 200


def test_three_nodes_are_one_cluster_and_a_killed_member_is_started_again(tmp_path: Path) -> None:
    with three(tmp_path) as nodes:
        assert nodes[0].call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 201
        servers = [f"n{number}.ns.dns.discovery.internal." for number in range(3)]

        def is_everywhere(name: str, rtype: str, wanted: list[str]) -> bool:
            return all(node.answers(f"{name}discovery.internal.", rtype) == wanted for node in nodes)

        wait_for(lambda: is_everywhere("web.prod.", "A", ["10.0.0.1"]), 30, "it is in DNS on all")
        wait_for(lambda: is_everywhere("", "NS", servers), 60, "all are name servers")
        status, cluster = nodes[1].call("GET", "/v1/cluster")
        assert status == 200
        assert sorted(member["role"] for member in cluster["store"]["members"]) == [
            "follower",
            "follower",
            "leader",
        ]
        killed = member_pid(nodes[2])
        os.kill(killed, signal.SIGKILL)
        assert nodes[2].answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"]
        wait_for(lambda: member_pid(nodes[2]) not in (0, killed), 60, "the member is started again")
        wait_for(
            lambda: all(
                each["healthy"] for each in nodes[0].call("GET", "/v1/cluster")[1]["store"]["members"]
            ),
            30,
            "all members are healthy",
        )


def member_pid(node: RunningNode) -> int:
    """The etcd that is the node's child; 0 when there is none."""
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    for child in children:
        try:
            if Path(f"/proc/{child}/comm").read_text().strip() == "etcd":
                return int(child)
        except FileNotFoundError:
            continue
    return 0


def test_a_node_whose_member_the_cluster_removes_answers_on_and_does_not_start_again(tmp_path: Path) -> None:
    with three(tmp_path) as nodes:
        assert nodes[0].call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 201
        removed = nodes[2]
        wait_for(
            lambda: removed.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"], 10, "it is in DNS"
        )

        def is_removed() -> bool:  # refused for 5 s after a member has come
            return run_discovery("cluster", "remove", "n2", "--node", nodes[0].url).returncode == 0

        wait_for(is_removed, 30, "n2 is removed")

        def errors() -> str:
            return str(removed.call("GET", "/v1/cluster")[1]["store"]["errors"])

        wait_for(lambda: "the cluster has removed this member" in errors(), 60, "it says so")
        wait_for(lambda: member_pid(removed) == 0, 60, "its etcd has ended")
        assert removed.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"]
        log = (tmp_path / "n2.log").read_text()
        assert log.count("the cluster has removed this member") == 1
        assert "is started again" not in log
