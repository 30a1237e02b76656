"""Questions and answers recorded from SkyDNS and CoreDNS, asked of running nodes set up as the cases say."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.node import running_node, wait_for

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


def run_cases(file: str, dns_port: int, http_port: int, *arguments: str) -> tuple[int, str]:
    """(cases passed, all that it says); fails the test where one fails."""
    done = subprocess.run(
        [
            sys.executable,
            HERE / "run_cases.py",
            HERE / file,
            *("--port", str(dns_port)),
            *("--load", f"etcd2=127.0.0.1:{http_port}"),
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


def test_skydns_alone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [SKYDNS_ZONE]) as node:
        passed, output = run_cases("skydns2.json", node.dns_port, node.http_port, "--setup", "no_rec")
    assert passed >= 104, output


def test_skydns_with_an_upstream(tmp_path: Path) -> None:
    with upstream() as port:
        settings = [SKYDNS_ZONE, f"forward.upstreams=['127.0.0.1:{port}']"]
        with running_node(tmp_path / "store", settings) as node:
            passed, output = run_cases("skydns2.json", node.dns_port, node.http_port, "--upstream")
    assert passed >= 111, output


def test_skydns_with_stub_zones_and_a_second_server(tmp_path: Path) -> None:
    second_zone = "zones=[{name: internal.skydns.net., ttl: 3600, negative_ttl: 60, negative_grace: 0}]"
    with (
        upstream("--aa") as port,
        running_node(tmp_path / "store", [SKYDNS_ZONE, "forward.stubs=true"]) as node,
        running_node(tmp_path / "second", [second_zone]) as second,
    ):
        key = "/v2/keys/skydns/net/skydns/internal/www"
        assert second.call("PUT", f"{key}?value=%7B%22host%22%3A%22127.10.10.10%22%7D")[0] == 201
        arguments = ["--setup", "stubzones", "--setup", "second-server", "--only", "stub"]
        ports = ["--port2", str(second.dns_port), "--upstream-port", str(port)]
        passed, output = run_cases("skydns2.json", node.dns_port, node.http_port, *arguments, *ports)
    assert passed >= 6, output


def test_coredns_alone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [COREDNS_ZONES]) as node:
        passed, output = run_cases("coredns_etcd.json", node.dns_port, node.http_port)
    assert passed >= 96, output


def test_coredns_with_an_upstream(tmp_path: Path) -> None:
    with upstream() as port:
        settings = [COREDNS_ZONES, f"forward.upstreams=['127.0.0.1:{port}']"]
        with running_node(tmp_path / "store", settings) as node:
            passed, output = run_cases("coredns_etcd.json", node.dns_port, node.http_port, "--upstream")
    assert passed >= 99, output


def test_coredns_with_a_second_zone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", [coredns_zones("skydns.test.", "miek.nl.")]) as node:
        arguments = ["--setup", "zone-miek.nl", "--only", "miek"]
        passed, output = run_cases("coredns_etcd.json", node.dns_port, node.http_port, *arguments)
    assert passed >= 1, output
