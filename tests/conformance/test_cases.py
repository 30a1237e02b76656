"""Questions and answers recorded from SkyDNS and CoreDNS, asked of running nodes set up as the cases say.

On the embedded engine the cases are loaded through the node's own /v2/keys, on the etcd engine with etcdctl, as by
any other program that writes this layout.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query
import pytest

from tests.support.etcd import etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent
SKYDNS = "{name: skydns.test., ttl: 3600, negative_ttl: 60, negative_grace: 0, local: %s}"
SKYDNS_ZONE = "zones=[" + SKYDNS % "104.server1.development.region1.skydns.test." + "]"


def coredns_zones(*names: str) -> str:
    zones = ", ".join(f"{{name: {name}, ttl: 300, negative_ttl: 30, negative_grace: 0}}" for name in names)
    return f"zones=[{zones}]"


COREDNS_ZONES = coredns_zones(
    "skydns.test.",
    "skydns_extra.test.",
    "skydns_zonea.test.",
    "skydns_zoneb.test.",
    "skydns_zonec.test.",
    "skydns_zoned.test.",
    "in-addr.arpa.",
)


class Engine(NamedTuple):
    """`settings` of a node on it. `etcd`: HOST:PORT of the cluster's member; "": there is none."""

    settings: Sequence[str] = ()
    etcd: str = ""


@pytest.fixture(params=["embedded", pytest.param("etcd", marks=pytest.mark.cluster)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "embedded":
        yield Engine()
        return
    with etcd_cluster(tmp_path / "etcd") as cluster:
        settings = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints}"]
        yield Engine(settings, cluster.endpoints[0].removeprefix("http://"))


@contextmanager
def upstream(*arguments: str) -> Iterator[int]:
    """The recorded cases' own little resolver; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, HERE / "fake_upstream.py", str(port), *arguments])

    def answers() -> bool:
        query = dns.message.make_query("example.com.", "A")
        try:
            dns.query.udp(query, "127.0.0.1", port=port, timeout=0.2)
        except (OSError, dns.exception.Timeout):
            return False
        return True

    try:
        wait_for(answers, 20, "the resolver of the cases answers")
        yield port
    finally:
        process.terminate()
        process.wait()


def run_cases(file: str, engine: Engine, node: RunningNode, *arguments: str) -> tuple[int, str]:
    """(cases passed, all that it says); fails the test where one fails."""
    load = f"etcd={engine.etcd}" if engine.etcd else f"etcd2=127.0.0.1:{node.http_port}"
    settle = "0.1" if engine.etcd else "0"  # seconds; a record that etcdctl puts is answered within 0.05 s
    done = subprocess.run(
        [
            sys.executable,
            HERE / "run_cases.py",
            HERE / file,
            *("--port", str(node.dns_port)),
            *("--load", load),
            *("--settle", settle),
            *("--skip-flag", "quirk"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    counts = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", done.stdout, re.M)
    assert counts is not None, done.stdout + done.stderr
    assert int(counts[2]) == 0, done.stdout
    return int(counts[1]), done.stdout


# The numbers below guard against a runner that skips what it should ask.


def test_skydns_alone(engine: Engine, tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [SKYDNS_ZONE, *engine.settings]) as node:
        passed, output = run_cases("skydns2.json", engine, node, "--setup", "no_rec")
    assert passed >= 104, output


def test_skydns_with_an_upstream(engine: Engine, tmp_path: Path) -> None:
    with upstream() as port:
        settings = [*engine.settings, SKYDNS_ZONE, f"forward.upstreams=['127.0.0.1:{port}']"]
        with running_node(tmp_path / "store", settings) as node:
            passed, output = run_cases("skydns2.json", engine, node, "--upstream")
    assert passed >= 111, output


def test_skydns_with_stub_zones_and_a_second_server(engine: Engine, tmp_path: Path) -> None:
    second_zone = "zones=[{name: internal.skydns.net., ttl: 3600, negative_ttl: 60, negative_grace: 0}]"
    with (
        upstream("--aa") as port,
        running_node(tmp_path / "store", [*engine.settings, SKYDNS_ZONE, "forward.stubs=true"]) as node,
        running_node(tmp_path / "second", [second_zone]) as second,
    ):
        key = "/v2/keys/skydns/net/skydns/internal/www"
        assert second.call("PUT", f"{key}?value=%7B%22host%22%3A%22127.10.10.10%22%7D")[0] == 201
        arguments = ["--setup", "stubzones", "--setup", "second-server", "--only", "stub"]
        ports = ["--port2", str(second.dns_port), "--upstream-port", str(port)]
        passed, output = run_cases("skydns2.json", engine, node, *arguments, *ports)
    assert passed >= 6, output


def test_coredns_alone(engine: Engine, tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [*engine.settings, COREDNS_ZONES]) as node:
        passed, output = run_cases("coredns_etcd.json", engine, node)
    assert passed >= 96, output


def test_coredns_with_an_upstream(engine: Engine, tmp_path: Path) -> None:
    with upstream() as port:
        settings = [*engine.settings, COREDNS_ZONES, f"forward.upstreams=['127.0.0.1:{port}']"]
        with running_node(tmp_path / "store", settings) as node:
            passed, output = run_cases("coredns_etcd.json", engine, node, "--upstream")
    assert passed >= 99, output


def test_coredns_with_a_second_zone(engine: Engine, tmp_path: Path) -> None:
    settings = [*engine.settings, coredns_zones("skydns.test.", "miek.nl.")]
    with running_node(tmp_path / "store", settings) as node:
        arguments = ["--setup", "zone-miek.nl", "--only", "miek"]
        passed, output = run_cases("coredns_etcd.json", engine, node, *arguments)
    assert passed >= 1, output
