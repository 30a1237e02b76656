"""What a chaos run happens to: three nodes and three members of etcd, each on a host of its own, and every fault.

Owns the processes and the cuts. `begin` makes a fault, `end` takes it back; both tell in words what they did. It
watches nothing and judges nothing.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Protocol

from tests.cluster.schedule import Fault
from tests.support.etcd import EtcdMember
from tests.support.network import Host, Network
from tests.support.node import DISCOVERY, ROOT, environment, wait_for

MEMBERS = ("m1", "m2", "m3")
NODES = ("n1", "n2", "n3")
DNS_PORT, HTTP_PORT = 1053, 8053
STALE_AFTER = 2


class NodeProcess:
    """A node on its host. It goes on in the same directory when it is started again."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        endpoints: Collection[str],
        settings: Sequence[str] = (),
        *,
        name: str = "",
    ) -> None:
        self.name = name or host.name
        self.address = host.address
        self.url = f"http://{host.address}:{HTTP_PORT}"
        self.log = directory / f"{self.name}.log"
        self._said = directory / f"{self.name}.out"
        sets = [
            *(["store.engine=etcd", f"store.etcd.endpoints={list(endpoints)}"] if endpoints else []),
            f"store.path={directory / self.name}",
            f"node.name={self.name}",
            f"dns.listen=['{host.address}:{DNS_PORT}']",
            f"http.listen=['{host.address}:{HTTP_PORT}']",
            "http.open=true",
            f"stale_after={STALE_AFTER}",
            *settings,
        ]
        self._command = [
            *host.enter,
            *DISCOVERY,
            "serve",
            *(word for each in sets for word in ("--set", each)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None
        with self._said.open("wb") as said, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=said, stderr=log, env=environment()
            )

    @property
    def is_ready(self) -> bool:
        """It has said that it answers."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended by itself: {self.log.read_text()[-2000:]}"
        return b"\nReady" in self._said.read_bytes()

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """In its own way, with what it has started."""
        if self._process is not None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class Member(Protocol):
    """What a member must bear."""

    name: str
    client: str

    def start(self) -> None: ...
    def send(self, number: int) -> None: ...
    def kill(self) -> None: ...


class Site:
    """`leader` tells the name of the member that leads, or any where none does."""

    def __init__(self, directory: Path, network: Network) -> None:
        self.network = network
        hosts = network.hosts
        peers = {name: f"http://{hosts[name].address}:2380" for name in MEMBERS}
        flags = ["--initial-cluster", ",".join(f"{name}={peer}" for name, peer in peers.items())]
        self._own = {
            name: EtcdMember(
                name,
                directory,
                f"http://{hosts[name].address}:2379",
                peers[name],
                f"http://{hosts[name].address}:2381",
                flags,
                hosts[name].enter,
            )
            for name in MEMBERS
        }
        self.members: Mapping[str, Member] = self._own
        self.endpoints = [member.client for member in self.members.values()]
        self.nodes = {name: NodeProcess(hosts[name], directory, self.endpoints) for name in NODES}
        self.leader: Callable[[], str] = lambda: MEMBERS[0]
        self._begun: dict[Fault, str] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()  # faults of both rows may cut one line

    def start(self, seconds: float) -> None:
        """Until all members are healthy and all nodes ready, each within `seconds`."""
        for member in self._own.values():
            member.start()
        for member in self._own.values():
            wait_for(member.is_healthy, seconds, f"{member.name} is healthy: {member.log}")
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            wait_for(lambda node=node: node.is_ready, seconds, f"{node.name} is ready: {node.log}")  # type: ignore[misc]

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        for member in self.members.values():
            member.kill()

    def ctl(self, *arguments: str) -> str:
        command = ["etcdctl", "--endpoints", ",".join(self.endpoints), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout

    # ---------------------------------------------------------------- faults

    def target(self, fault: Fault) -> str:
        """Whom it befalls; looked up when it begins."""
        if fault not in self._begun:
            self._begun[fault] = self.leader() if fault.target == "leader" else fault.target
        return self._begun[fault]

    def targets(self, fault: Fault) -> list[str]:
        """All who are killed or stopped."""
        target = self.target(fault)
        if not fault.kind.startswith("two "):
            return [target]
        second = fault.other if fault.other != target else MEMBERS[(MEMBERS.index(target) + 1) % len(MEMBERS)]
        return [target, second]

    def begin(self, fault: Fault) -> None:
        if fault.kind.endswith("killed"):
            for name in self.targets(fault):
                self._process(name).kill()
        elif fault.kind.endswith("stopped"):
            for name in self.targets(fault):
                self._process(name).send(signal.SIGSTOP)
        else:
            for line in self.cuts(fault):
                self._cuts[line] += 1
                self.network.cut(*line)

    def end(self, fault: Fault) -> None:
        if fault.kind.endswith("killed"):
            for name in self.targets(fault):
                self._process(name).start()
        elif fault.kind.endswith("stopped"):
            for name in self.targets(fault):
                self._process(name).send(signal.SIGCONT)
        else:
            for line in self.cuts(fault):
                self._cuts[line] -= 1
                if not self._cuts[line]:
                    self.network.mend(*line)

    def cuts(self, fault: Fault) -> list[tuple[str, str]]:
        """(sender, receiver). Who is cut off is so from the (other) members, who is isolated from the nodes too."""
        if fault.kind == "all apart":
            return list(permutations(MEMBERS, 2))
        target = self.target(fault)
        others = [fault.other] if fault.other else [name for name in MEMBERS if name != target]
        others += NODES if fault.kind == "isolated" else ()
        out = [(target, other) for other in others]
        back = [(other, target) for other in others]
        if fault.kind.endswith(" out"):
            return out
        return back if fault.kind.endswith(" in") else out + back

    def _process(self, name: str) -> Member | NodeProcess:
        return self.members.get(name) or self.nodes[name]
