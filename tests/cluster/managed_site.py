"""The same site with managed members: three hosts, on each a node that runs its own member of etcd.

Owns what differs from `site`: who starts and ends a member. A member that is killed is started again by its node; one
whose node is killed goes with it. A cut between a node and members is one between their hosts.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.cluster.schedule import Fault
from tests.cluster.site import MEMBERS, NODES, NodeProcess, Site
from tests.support.network import Host, Network
from tests.support.node import wait_for

HOST_OF = dict(zip(NODES, MEMBERS, strict=True))


class ChildMember:
    """The etcd that a node runs. What befalls it while its node does not run befalls nobody."""

    def __init__(self, host: Host, node: NodeProcess) -> None:
        self.name = host.name
        self.client = f"http://{host.address}:2379"
        self._node = node

    def send(self, number: int) -> None:
        for task in Path(f"/proc/{self._node.pid}/task").glob("*/children"):
            with suppress(OSError):  # it has ended meanwhile
                for child in task.read_text().split():
                    if Path(f"/proc/{child}/comm").read_text().strip() == "etcd":
                        os.kill(int(child), number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def start(self) -> None:
        """The node does."""


class ManagedSite(Site):
    def __init__(self, directory: Path, network: Network) -> None:
        self.network = network
        hosts = network.hosts
        cluster = ", ".join(f"{name}: 'http://{hosts[name].address}:2380'" for name in MEMBERS)
        self.nodes = {
            name: NodeProcess(
                hosts[host],
                directory,
                (),
                [
                    "store.engine=managed-etcd",
                    f"node.name={name}",
                    f"store.path={directory / name}",
                    f"store.member.name={host}",
                    f"store.member.client=http://{hosts[host].address}:2379",
                    f"store.member.peer=http://{hosts[host].address}:2380",
                    f"store.member.initial_cluster={{{cluster}}}",
                ],
                name=name,
            )
            for name, host in HOST_OF.items()
        }
        self.members = {host: ChildMember(hosts[host], self.nodes[name]) for name, host in HOST_OF.items()}
        self.endpoints = [member.client for member in self.members.values()]
        self.leader: Callable[[], str] = lambda: MEMBERS[0]
        self._begun: dict[Fault, str] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()

    def start(self, seconds: float) -> None:
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            wait_for(lambda node=node: node.is_ready, seconds, f"{node.name} is ready: {node.log}")  # type: ignore[misc]

    def close(self) -> None:
        for node in self.nodes.values():
            node.end()

    def cuts(self, fault: Fault) -> list[tuple[str, str]]:
        """Between hosts; a node and its own member can't be parted."""
        lines = ((HOST_OF.get(a, a), HOST_OF.get(b, b)) for a, b in super().cuts(fault))
        return [line for line in dict.fromkeys(lines) if line[0] != line[1]]
