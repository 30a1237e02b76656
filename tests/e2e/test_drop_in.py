"""A node on an etcd that others write to and read from, in SkyDNS's layout (names.md, "A service's fields")."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.exception
import pytest

from discovery.kv.etcd_endpoints import Access
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened
from tests.support.node import RunningNode, run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.cluster]
ZONE = "zones=[{name: skydns.test., ttl: 300}]"

# What CoreDNS's and SkyDNS's own readers take from a value: a field of another type spoils the record there.
LAYOUT = {
    "host": str,
    "port": int,
    "priority": int,
    "weight": int,
    "text": str,
    "mail": bool,
    "ttl": int,
    "targetstrip": int,
    "group": str,
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "etcd") as cluster:
        yield cluster


@pytest.fixture
def node(cluster: EtcdCluster, tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(tmp_path / "node", on(cluster)) as node:
        yield node


def on(cluster: EtcdCluster, *settings: str) -> list[str]:
    return ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints}", ZONE, *settings]


def soon(node: RunningNode, name: str, rtype: str, wanted: list[str]) -> float:
    """Seconds until that is the answer. Fails the test when it never is."""
    begin = time.monotonic()
    while True:
        try:
            found = node.answers(name, rtype)
        except dns.exception.Timeout:
            found = []
        if found == wanted:
            return time.monotonic() - begin
        assert time.monotonic() - begin < 5, (name, rtype, found)


def test_what_others_put_is_answered(cluster: EtcdCluster, node: RunningNode) -> None:
    # CoreDNS's and SkyDNS's own examples, Registrator's keys, and ExternalDNS's, whose last label is random.
    cluster.put("/skydns/test/skydns/x1", '{"host":"1.1.1.1","ttl":60}')
    cluster.put("/skydns/test/skydns/x2", '{"host":"1.1.1.2","ttl":60}')
    soon(node, "skydns.test.", "A", [])
    soon(node, "x1.skydns.test.", "A", ["1.1.1.1"])
    cluster.put("/skydns/test/skydns/rails/1", '{"host":"service1.example.com","port":8080,"priority":20}')
    soon(node, "1.rails.skydns.test.", "SRV", ["20 100 8080 service1.example.com."])
    cluster.put("/skydns/test/skydns/redis/host:redis:6379", '{"host":"10.1.0.1","port":6379}')
    soon(node, "redis.skydns.test.", "SRV", [r"10 100 6379 host:redis:6379.redis.skydns.test."])
    heritage = (
        r"\"heritage=external-dns,external-dns/owner=default,external-dns/resource=service/default/nginx\""
    )
    value = f'{{"host":"10.1.0.2","text":"{heritage}","targetstrip":1}}'
    cluster.put("/skydns/test/skydns/nginx/4bd2ac0e", value)
    soon(node, "nginx.skydns.test.", "A", ["10.1.0.2"])
    assert "heritage=external-dns" in node.answers("nginx.skydns.test.", "TXT")[0]
    cluster.put("/skydns/arpa/in-addr/10/1/0/2", '{"host":"nginx.skydns.test"}')
    soon(node, "2.0.1.10.in-addr.arpa.", "PTR", ["nginx.skydns.test."])
    cluster.ctl("del", "/skydns/test/skydns/nginx/4bd2ac0e")
    soon(node, "nginx.skydns.test.", "A", [])


def test_a_foreign_lease_bounds_the_ttl_and_takes_its_record_along(
    cluster: EtcdCluster, node: RunningNode
) -> None:
    lease = cluster.ctl("lease", "grant", "20").split()[1]
    cluster.put("/skydns/test/skydns/leased", '{"host":"10.1.0.3"}', f"--lease={lease}")
    soon(node, "leased.skydns.test.", "A", ["10.1.0.3"])
    begin = time.monotonic()
    while node.ask("leased.skydns.test.", "A").answer[0].ttl != 20:  # asked for in the background
        assert time.monotonic() - begin < 5
    cluster.ctl("lease", "revoke", lease)
    soon(node, "leased.skydns.test.", "A", [])


def test_what_is_registered_here_is_read_by_others(cluster: EtcdCluster, node: RunningNode) -> None:
    body = {
        "host": "10.0.0.1",
        "port": 80,
        "priority": 5,
        "weight": 7,
        "ttl": 30,
        "text": "hello",
        "group": "g1",
        "targetstrip": 1,
        "ports": {"http": 80, "dns/udp": 53},
        "tags": ["a", "b"],
        "meta": {"k": "v"},
    }
    assert node.call("PUT", "/v1/services/web.prod/i1", body)[0] == 201
    assert node.call("PUT", "/v1/services/web.prod/i2", {"host": "10.0.0.2"})[0] == 201
    stored = {path: read_as_others(cluster, path) for path in ("i1", "i2")}
    assert stored["i1"] == {name: value for name, value in body.items() if name in LAYOUT}
    assert stored["i2"] == {"host": "10.0.0.2"}
    text = cluster.ctl("get", "/skydns/test/skydns/prod/web/i1", "--print-value-only")
    assert json.loads(text).items() >= {"tags": ["a", "b"], "meta": {"k": "v"}}.items()  # and ours ride along
    assert node.call("DELETE", "/v1/services/web.prod/i1")[0] == 204
    assert cluster.ctl("get", "/skydns/test/skydns/prod/web/i1") == ""


def read_as_others(cluster: EtcdCluster, instance: str) -> Mapping[str, object]:
    """What another reader of the layout makes of it: known fields, each of its type, the rest unseen."""
    text = cluster.ctl("get", f"/skydns/test/skydns/prod/web/{instance}", "--print-value-only")
    found = {name: value for name, value in json.loads(text).items() if name in LAYOUT}
    for name, value in found.items():
        assert type(value) is LAYOUT[name], (name, value)
    return found


@pytest.mark.parametrize("prefix", ["/skydns", "/names/of/ours"])
def test_nothing_is_ever_written_elsewhere(cluster: EtcdCluster, tmp_path: Path, prefix: str) -> None:
    with running_node(tmp_path / "node", on(cluster, f"store.prefix={prefix}")) as node:
        for number in range(3):
            one = f"/v1/services/web.prod/i{number}"
            status, _ = node.call("PUT", one, {"host": "10.0.0.1", "port": 80, "ports": {"http": 80}})
            assert status == 201
            assert node.call("POST", f"{one}/heartbeat")[0] == 200
        assert node.call("PUT", "/v1/services/web.prod/i0", {"host": "10.0.0.9", "port": 80})[0] == 200
        assert node.call("DELETE", "/v1/services/web.prod/i1")[0] == 204
        assert (
            node.call("PUT", f"/v2/keys{prefix}/test/skydns/a?value=%7B%22host%22%3A%2210.0.0.1%22%7D")[0]
            == 201
        )
        assert node.call("PUT", f"/v2/keys{prefix}/test/skydns/b?value=%7B%7D&ttl=60")[0] == 201
        assert node.call("DELETE", f"/v2/keys{prefix}/test/skydns/a")[0] == 200
        assert node.call("PUT", "/v2/keys/elsewhere/a?value=1")[0] == 403
        assert node.answers("web.prod.skydns.test.", "A")
        assert node.call("GET", "/v1/cluster")[0] == 200
    written = asyncio.run(all_ever_written(cluster))
    assert any(key.startswith(f"{prefix}/".encode()) for key in written)
    assert any(key.startswith(b"/discovery/") for key in written)
    others = [key for key in written if not key.startswith((f"{prefix}/".encode(), b"/discovery/"))]
    assert others == []


async def all_ever_written(cluster: EtcdCluster) -> set[bytes]:
    """Every key of every revision."""
    written: set[bytes] = set()
    async with opened(Access(cluster.endpoints)) as store:
        last = await store.put(b"/discovery/end", b"")
        async with store.watch(b"", b"\0", from_revision=1) as batches:
            async for batch in batches:
                written |= {event.kv.key for event in batch.events}
                if batch.revision >= last:
                    return written
    raise AssertionError


def test_a_wrong_password_ends_the_start_with_one_line(cluster: EtcdCluster, tmp_path: Path) -> None:
    for command in ("user add root:root", "user grant-role root root", "auth enable"):
        cluster.ctl(*command.split())
    wrong = ["store.etcd.username=root", "store.etcd.password=wrong"]
    for login, advice in ((wrong, "invalid user ID or password"), ([], "set store.etcd.username")):
        ports = [
            "dns.listen=['127.0.0.1:0']",
            "http.listen=['127.0.0.1:0']",
            f"store.path={tmp_path / 'node'}",
        ]
        sets = [word for each in (*on(cluster, *login), *ports) for word in ("--set", each)]
        done = run_discovery("serve", *sets)
        assert done.returncode == 1
        assert done.stdout == ""
        assert advice in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_two_nodes_of_one_etcd_are_one(cluster: EtcdCluster, node: RunningNode, tmp_path: Path) -> None:
    """A registration, a heartbeat or a leave may go to any node, and is in DNS on all."""
    with running_node(tmp_path / "second", on(cluster)) as second:
        assert node.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "lease_ttl": 5})[0] == 201
        soon(second, "web.prod.skydns.test.", "A", ["10.0.0.1"])
        assert second.call("POST", "/v1/services/web.prod/i1/heartbeat")[0] == 200
        assert second.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.2", "lease_ttl": 5})[0] == 200
        soon(node, "web.prod.skydns.test.", "A", ["10.0.0.2"])
        assert second.call("DELETE", "/v1/services/web.prod/i1")[0] == 204
        soon(node, "web.prod.skydns.test.", "A", [])
