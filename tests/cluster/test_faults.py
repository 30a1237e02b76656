"""Nodes over an etcd cluster that loses members: what goes on, what is refused and in which words, and how it heals."""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

STALE_AFTER = 2
SOON = 20.0  # seconds in which what takes one or two on a quiet machine happens on any
SERVICE = {"host": "10.0.0.1", "port": 80, "lease_ttl": 60}
STALE, NOT_READY = 3, 14  # RFC 8914


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: EtcdCluster) -> Iterator[EtcdCluster]:
    """All its members run, before and after."""
    yield shared
    shared.revive()


@contextmanager
def node_on(cluster: EtcdCluster, directory: Path, stale_after: int = STALE_AFTER) -> Iterator[RunningNode]:
    settings = [
        "store.engine=etcd",
        f"store.etcd.endpoints={cluster.endpoints}",
        f"stale_after={stale_after}",
    ]
    with running_node(directory, [*settings, f"node.name={directory.name}"]) as node:
        yield node


def extended(answer: dns.message.Message) -> list[int]:
    return [int(each.code) for each in answer.options if isinstance(each, dns.edns.EDEOption)]


def name_of(service: str) -> str:
    return f"{service}.discovery.internal."


def metrics(node: RunningNode) -> Mapping[str, float]:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in lines}


class Writing(threading.Thread):
    """Writes until it is taken. `took`: the seconds since `begin` (monotonic)."""

    def __init__(self, begin: float, write: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._begin, self._write = begin, write
        self.took = float("inf")
        self.start()

    def run(self) -> None:
        wait_for(self._write, SOON, "a write is taken")
        self.took = time.monotonic() - self._begin


def is_put(node: RunningNode, path: str) -> bool:
    return node.call("PUT", path, SERVICE)[0] in (200, 201)


def is_put_at(member: EtcdMember) -> bool:
    """Whether etcd itself takes a write there."""
    body = b'{"key": "YQ==", "value": "YQ=="}'
    try:
        with urllib.request.urlopen(f"{member.client}/v3/kv/put", body, timeout=0.3) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def lose_quorum(cluster: EtcdCluster) -> None:
    for member in cluster.members[1:]:
        member.kill()


def saved(directory: Path) -> bytes:
    """The files that the last view is kept in."""
    return b"".join(file.read_bytes() for file in directory.glob("view.db*"))


# ---------------------------------------------------------------- many nodes


def test_what_one_node_took_all_nodes_answer(cluster: EtcdCluster, tmp_path: Path) -> None:
    with (
        node_on(cluster, tmp_path / "a") as a,
        node_on(cluster, tmp_path / "b") as b,
        node_on(cluster, tmp_path / "c") as c,
    ):
        path, name = "/v1/services/many/i1", name_of("many")
        assert a.call("PUT", path, SERVICE)[0] == 201
        assert a.answers(name, "A") == ["10.0.0.1"]
        assert b.call("POST", f"{path}/heartbeat")[1]["lease_ttl"] == 60
        for node in (b, c):
            wait_for(lambda node=node: node.answers(name, "A") == ["10.0.0.1"], SOON, "it is there")  # type: ignore[misc]
        assert b.call("PUT", path, {**SERVICE, "host": "10.0.0.2"})[0] == 200
        wait_for(lambda: c.answers(name, "A") == ["10.0.0.2"], SOON, "it is replaced on C")
        assert c.call("DELETE", path)[0] == 204
        for node in (a, b, c):
            wait_for(lambda node=node: not node.answers(name, "A"), SOON, "it is gone everywhere")  # type: ignore[misc]
        assert a.call("POST", f"{path}/heartbeat")[0] == 404


# ---------------------------------------------------------------- a member lost


class Asking(threading.Thread):
    """Asks a node for one name without a pause. `failed`: what was no answer with that address."""

    def __init__(self, node: RunningNode, name: str, address: str) -> None:
        super().__init__(daemon=True)
        self._node, self._name, self._address = node, name, address
        self._ending = threading.Event()
        self.asked = 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._ending.wait(0.01):
            self.asked += 1
            try:
                told = self._node.answers(self._name, "A")
            except Exception as error:  # a timeout, or what cannot be read
                told = [repr(error)]
            if told != [self._address]:
                self.failed += told or ["nothing"]

    def end(self) -> None:
        self._ending.set()
        self.join()


def test_the_leader_is_killed_and_writes_resume_while_every_question_is_answered(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    """Five times, through two nodes, each as a client that asks it again and again. Beside it, writes to etcd itself:
    a tie between two candidates costs it a further election, so the middle of the times counts."""
    name = name_of("asked")
    with node_on(cluster, tmp_path / "a") as a, node_on(cluster, tmp_path / "b") as b:
        assert a.call("PUT", "/v1/services/asked/i1", SERVICE)[0] == 201
        wait_for(lambda: b.answers(name, "A") == ["10.0.0.1"], SOON, "it is on both")
        asking = [Asking(node, name, "10.0.0.1") for node in (a, b)]
        for each in asking:
            each.start()
        took: list[float] = []
        for turn in range(5):
            leader = cluster.leader()
            leader.kill()
            begin = time.monotonic()
            others = [member for member in cluster.members if member is not leader]
            own = [Writing(begin, partial(is_put_at, member)) for member in others]
            ours = [Writing(begin, partial(is_put, node, f"/v1/services/resumed/i{turn}")) for node in (a, b)]
            for writing in (*own, *ours):
                writing.join()
            took += [writing.took for writing in ours]
            etcd = min(writing.took for writing in own)
            nodes = ", ".join(f"{writing.took:.2f} s" for writing in ours)
            print(
                f"{leader.name} led and was killed: etcd takes writes after {etcd:.2f} s, the nodes after {nodes}"
            )
            leader.start()
            cluster.until_healthy()
        for each in asking:
            each.end()
        assert statistics.median(took) < 3, took
        for each in asking:
            assert each.asked > 100
            assert each.failed == []


# ---------------------------------------------------------------- no quorum


def test_without_a_quorum_dns_goes_on_and_everything_says_so_and_heals(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    path, name = "/v1/services/held/i1", name_of("held")
    with node_on(cluster, tmp_path / "a") as node:
        assert node.call("PUT", path, SERVICE)[0] == 201
        assert extended(node.ask(name, "A")) == []
        assert metrics(node)["discovery_store_up"] == 1
        lose_quorum(cluster)
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 503, SOON, "it takes no writes")
        beats = f"{path}/heartbeat"  # one within a tenth of the TTL after the registration has nothing to do
        wait_for(lambda: node.call("POST", beats)[0] == 503, SOON, "no heartbeat is taken")
        for method, at, body in (
            ("PUT", "/v1/services/held/i2", SERVICE),
            ("POST", beats, None),
            ("DELETE", path, None),
            ("POST", "/v1/leases", {"ttl": 30}),
        ):
            status, problem, headers = node.exchange(method, at, body)
            assert (status, problem["status"]) == (503, 503), (method, at)
            assert int(headers["Retry-After"]) >= 1
        wait_for(
            lambda: extended(node.ask(name, "A")) == [STALE], SOON, "the answers say that they are stale"
        )
        answer = node.ask(name, "A")
        assert answer.rcode() == dns.rcode.NOERROR
        assert [item.to_text() for item in answer.answer[0]] == ["10.0.0.1"]
        assert answer.answer[0].ttl <= 30
        assert node.call("GET", "/readyz")[0] == 200
        assert metrics(node)["discovery_store_up"] == 0
        status, told, headers = node.exchange("GET", "/v1/cluster")
        assert status == 200
        assert float(headers["X-Stale-Seconds"]) > 0
        assert not told["store"]["reachable"]
        assert told["store"]["errors"]
        (state,) = (each for each in told["nodes"] if each["this"])
        assert (state["name"], state["ready"], state["stale"]) == ("a", True, True)
        assert "out of reach" in state["error"]
        cluster.revive()
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, SOON, "it takes writes again")
        wait_for(lambda: extended(node.ask(name, "A")) == [], SOON, "the answers are fresh again")
        assert node.call("POST", f"{path}/heartbeat")[0] == 200
        assert node.call("PUT", "/v1/services/held/i2", {**SERVICE, "host": "10.0.0.2"})[0] == 201
        assert node.answers(name, "A") == ["10.0.0.1", "10.0.0.2"]
        assert metrics(node)["discovery_store_up"] == 1
        assert node.call("GET", "/v1/cluster")[1]["store"]["reachable"]


def test_a_node_restarted_while_etcd_is_away_answers_stale_at_once_and_heals(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    name = name_of("kept")
    with node_on(cluster, tmp_path / "a", stale_after=30) as node:
        assert node.call("PUT", "/v1/services/kept/i1", SERVICE)[0] == 201
        wait_for(lambda: b"/kept/i1" in saved(tmp_path / "a"), SOON, "the view is on disk")
    for member in cluster.members:
        member.kill()
    with node_on(cluster, tmp_path / "a", stale_after=30) as node:
        assert node.lines[-1].startswith("Ready")
        answer = node.ask(name, "A")
        assert [item.to_text() for item in answer.answer[0]] == ["10.0.0.1"]
        assert extended(answer) == [STALE]
        assert node.call("GET", "/readyz")[0] == 200
        assert node.call("GET", "/readyz?writes")[0] == 503
        cluster.revive()
        wait_for(lambda: extended(node.ask(name, "A")) == [], SOON, "the answers are fresh again")
        assert node.call("PUT", "/v1/services/kept/i1", {**SERVICE, "host": "10.0.0.2"})[0] == 200
        assert node.answers(name, "A") == ["10.0.0.2"]


def test_a_node_that_never_had_a_view_is_not_ready_until_etcd_is_there(
    cluster: EtcdCluster, tmp_path: Path
) -> None:
    name = name_of("late")
    cluster.put("/skydns/internal/discovery/late/i1", '{"host": "10.0.0.1"}')
    lose_quorum(cluster)
    with node_on(cluster, tmp_path / "new") as node:
        assert node.lines[-1].startswith("Started")
        answer = node.ask(name, "A")
        assert (answer.rcode(), extended(answer)) == (dns.rcode.SERVFAIL, [NOT_READY])
        assert node.call("GET", "/readyz")[0] == 503
        assert node.call("PUT", "/v1/services/late/i2", SERVICE)[0] == 503
        assert node.call("GET", "/healthz")[0] == 200
        cluster.revive()
        wait_for(lambda: node.call("GET", "/readyz?writes")[0] == 200, SOON, "it is ready")
        assert node.answers(name, "A") == ["10.0.0.1"]
