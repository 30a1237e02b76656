"""Real etcd clusters for tests: members as processes on free ports of 127.0.0.1, ended by their own pids.

Each member tells its health and its metrics on a further port, without TLS or login.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.node import wait_for

START_LIMIT = 30.0  # seconds


FIRST_PORT, LAST_PORT = 10_000, 32_000  # below those that the kernel gives to connections by itself
_tried = itertools.count(os.getpid() * 131 % (LAST_PORT - FIRST_PORT))  # processes begin apart


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Free now, for TCP and UDP; ascending, as messages name URLs in order.

    They stay free while nobody listens on them: no connection gets one as its own end, and no test the same ones again.
    """
    found: list[int] = []
    for _ in range(LAST_PORT - FIRST_PORT):
        if len(found) == count:
            return sorted(found)
        port = FIRST_PORT + next(_tried) % (LAST_PORT - FIRST_PORT)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(type=kind) as probe:
                    probe.bind((host, port))
        except OSError:  # somebody's
            continue
        found.append(port)
    raise AssertionError(f"no {count} ports are free on {host}")


def binary() -> str:
    found = shutil.which("etcd")
    assert found is not None, "no etcd: `make test` installs Debian's etcd-server"
    return found


class EtcdMember:
    """One member. `flags`: as on etcd's command line, the same at every start; `under`: a program to start it with."""

    def __init__(
        self,
        name: str,
        directory: Path,
        client: str,
        peer: str,
        metrics: str,
        flags: Sequence[str],
        under: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.client = client
        self.peer = peer
        self.metrics = metrics
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self.flags = list(flags)
        self.under = list(under)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *flags: str) -> None:
        assert self._process is None
        command = [*self.under, binary(), "--name", self.name, "--data-dir", str(self.data)]
        command += ["--listen-client-urls", self.client, "--advertise-client-urls", self.client]
        command += ["--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer]
        command += ["--listen-metrics-urls", self.metrics, "--logger", "zap"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self.flags, *flags], stdout=log, stderr=log)

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        """Returns when it has stopped, which takes a moment on a busy machine: it must answer nothing more."""
        self.send(signal.SIGSTOP)
        threads = Path(f"/proc/{self.pid}/task")
        wait_for(
            lambda: all(
                each.read_text().rpartition(")")[2].split()[0] == "T" for each in threads.glob("*/stat")
            ),
            START_LIMIT,
            f"{self.name} has stopped",
        )

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it and waits; nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def is_healthy(self) -> bool:
        """It answers and sees a leader."""
        try:
            with urllib.request.urlopen(f"{self.metrics}/health", timeout=1) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False

    def until_healthy(self) -> None:
        wait_for(self.is_healthy, START_LIMIT, f"{self.name} is healthy: {self.log}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of that metric's samples that have these labels."""
        with urllib.request.urlopen(f"{self.metrics}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return sum(
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )

    def started(self, call: str) -> float:
        """How often that call or stream was begun here."""
        return self.metric("grpc_server_started_total", grpc_method=call)


class EtcdCluster:
    """`members` by number. Their client URLs are `endpoints`. `ctl_flags`: what `etcdctl` needs to be let in."""

    def __init__(self, directory: Path, count: int, flags: Sequence[str] = (), scheme: str = "http") -> None:
        ports = iter(free_ports(3 * count))
        peers = {f"m{number}": f"http://127.0.0.1:{next(ports)}" for number in range(count)}
        directory.mkdir(parents=True, exist_ok=True)
        initial = ",".join(f"{name}={peer}" for name, peer in peers.items())
        self._identity = ["--initial-cluster", initial, "--initial-cluster-token", directory.name]
        shared = [*self._identity, *flags]
        self.ctl_flags: list[str] = []
        self.members = []
        for name, peer in peers.items():
            client, metrics = f"{scheme}://127.0.0.1:{next(ports)}", f"http://127.0.0.1:{next(ports)}"
            self.members.append(EtcdMember(name, directory, client, peer, metrics, shared))

    @property
    def endpoints(self) -> list[str]:
        return [member.client for member in self.members]

    def start(self) -> None:
        for member in self.members:
            member.start()
        self.until_healthy()

    def until_healthy(self) -> None:
        for member in self.members:
            member.until_healthy()

    def revive(self) -> None:
        """All run again, whatever a test did to them."""
        for member in self.members:
            if member.runs:
                member.resume()
            else:
                member.start()
        self.until_healthy()

    def replace(self, directory: Path) -> None:
        """The one member begins anew, as another cluster on the same port."""
        (member,) = self.members
        member.kill()
        member.data = directory
        member.start("--initial-cluster-token", directory.name)
        member.until_healthy()

    def restore(self, snapshot: Path, directory: Path, *, start: bool = True) -> None:
        """The one member goes on from a snapshot: the same cluster by its id, its revision of then, its terms anew."""
        (member,) = self.members
        member.kill()
        member.data = directory
        flags = ["--name", member.name, "--initial-advertise-peer-urls", member.peer, *self._identity]
        self.ctl("snapshot", "restore", str(snapshot), "--data-dir", str(directory), *flags)
        if start:
            member.start()
            member.until_healthy()

    def close(self) -> None:
        for member in self.members:
            member.kill()

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """What `etcdctl` says."""
        command = ["etcdctl", "--endpoints", ",".join(self.endpoints), *self.ctl_flags, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def put(self, key: str, value: str, *arguments: str) -> None:
        self.ctl("put", *arguments, "--", key, value)

    def leader(self) -> EtcdMember:
        """The member that leads now, by its own word."""
        text = self.ctl("endpoint", "status", "--write-out", "json", check=False)
        for status in json.loads(text):
            if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                return next(member for member in self.members if member.client == status["Endpoint"])
        raise AssertionError(f"nobody leads: {text}")


@contextmanager
def etcd_cluster(
    directory: Path, count: int = 1, flags: Sequence[str] = (), scheme: str = "http"
) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(directory, count, flags, scheme)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
