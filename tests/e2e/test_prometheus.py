"""Debian's Prometheus and whole nodes: what it finds by http_sd, what the dashboard asks of it, what the alerts say."""

from __future__ import annotations

import datetime
import json
import math
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.query
import pytest
from prometheus_client.parser import text_string_to_metric_families

from discovery import metrics_reference
from discovery.kv.certificate_files import renew
from tests.support.certificates import certificate, client_context
from tests.support.dns_server import DnsServer
from tests.support.etcd import free_ports
from tests.support.node import ROOT, RunningNode, running_node, wait_for
from tests.support.programs import LONG
from tests.support.prometheus import Prometheus, prometheus, promtool

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DASHBOARD = ROOT / "deploy" / "grafana" / "discovery.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
ALL_SHOWN = 180.0  # seconds until every query has its data, on however busy a machine

RELABEL = [
    {"source_labels": ["__meta_discovery_service"], "target_label": "service"},
    {"source_labels": ["__meta_discovery_instance"], "target_label": "instance"},
    {"source_labels": ["__meta_discovery_tags"], "regex": ".*,(canary),.*", "target_label": "stage"},
    {"regex": "__meta_discovery_meta_(.+)", "action": "labelmap"},
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "s", ["node.name=n1"]) as running:
        yield running


def finds(server: Prometheus, *wanted: str) -> None:
    """Waits until exactly these are scraped by the job."""
    wait_for(lambda: set(server.targets("found")) == set(wanted), LONG, f"targets: {wanted}")


def test_targets_appear_and_leave(tmp_path: Path, node: RunningNode) -> None:
    def register(instance: str, port: int, **body: object) -> None:
        body = {"host": "127.0.0.1", "ports": {"metrics": port}, "lease_ttl": 3600, **body}
        assert node.call("PUT", f"/v1/services/web.prod/{instance}", body)[0] == 201

    us = f"127.0.0.1:{node.http_port}"  # scraping the node itself succeeds
    job = {
        "job_name": "found",
        "scrape_interval": "1s",
        "http_sd_configs": [{"url": f"{node.url}/v1/sd/prometheus?port=metrics", "refresh_interval": "1s"}],
        "relabel_configs": RELABEL,
    }
    with prometheus(tmp_path, {"scrape_configs": [job]}) as server:
        register("i1", node.http_port, tags=["eu", "canary"], meta={"version": "1.2"})
        finds(server, us)
        labels = server.targets("found")[us]["labels"]
        expected = {
            "service": "web.prod",
            "instance": "i1",
            "stage": "canary",
            "version": "1.2",
            "job": "found",
        }
        assert labels == expected
        wait_for(
            lambda: bool(server.query('up{job="found", instance="i1"} == 1')), LONG, "it has been scraped"
        )
        register("i2", 9, host="::1")
        register("gone", 10, lease_ttl=1)
        finds(server, us, "[::1]:9")  # a lease that ends takes its target away
        assert node.call("POST", "/v1/services/web.prod/i2/drain")[0] == 200
        finds(server, us)
        assert node.call("POST", "/v1/services/web.prod/i2/undrain")[0] == 200
        assert node.call("DELETE", "/v1/services/web.prod/i1")[0] == 204
        finds(server, "[::1]:9")


# ---------------------------------------------------------------- the dashboard, on a cluster with traffic


class Cluster(NamedTuple):
    """`nodes`: one that runs a member of etcd and answers DNS by workers, and one that uses that member."""

    nodes: list[RunningNode]
    tls_port: int


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    certs = folder / "certs"
    renew(certs, {"n1": ["n1.example.net"]}, datetime.datetime.now(datetime.UTC))
    ours = certificate(folder)
    client, peer = (f"https://127.0.0.1:{port}" for port in free_ports(2))
    files = {"cert": certs / "n1.pem", "key": certs / "n1-key.pem", "ca": certs / "ca.pem"}
    with DnsServer(_any_address) as upstream:
        first = [
            *("store.engine=managed-etcd", "node.name=n1", "dns.workers=2"),
            *(f"store.member.client={client}", f"store.member.peer={peer}"),
            *(f"store.member.{name}={file}" for name, file in files.items()),
            *("dns.tls_listen=['127.0.0.1:0']", f"dns.tls.cert={ours.cert}", f"dns.tls.key={ours.key}"),
            f"forward.upstreams=['127.0.0.1:{upstream.port}']",
        ]
        second = [
            *("store.engine=etcd", "node.name=n2", f"store.etcd.endpoints=['{client}']"),
            *(f"store.etcd.{name}={file}" for name, file in files.items()),
        ]
        with running_node(folder / "n1", first) as one, running_node(folder / "n2", second) as two:
            (tls_port,) = re.findall(r"^TLS +\S+:(\d+) ", "\n".join(one.lines), re.M)
            yield Cluster([one, two], int(tls_port))


def _any_address(query: dns.message.Message, transport: str) -> list[bytes]:
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.RA
    return [reply.to_wire()]


class Traffic(threading.Thread):
    """Asks and registers without end, until it is stopped: all response codes, transports and ways of the cache."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.stopping = threading.Event()
        self.failed: list[BaseException] = []

    def run(self) -> None:
        round_ = 0
        while not self.stopping.wait(0.1):
            round_ += 1
            try:
                for node in self.cluster.nodes:
                    self._write(node, round_)
                    self._ask(node, round_)
            except OSError:  # an answer that came too late, on a machine that is busy
                continue
            except BaseException as error:
                self.failed.append(error)
                return

    def _write(self, node: RunningNode, round_: int) -> None:
        one = f"/v1/services/web.prod/{node.http_port}"
        node.call("PUT", one, {"host": "10.0.0.1", "port": 80, "lease_ttl": 60})
        node.call("POST", f"{one}/heartbeat")
        node.call("GET", one)
        node.call("PUT", f"{one}-{round_ % 5}", {"host": "10.0.0.2", "lease_ttl": 60})
        node.call("DELETE", f"{one}-{round_ % 5}")

    def _ask(self, node: RunningNode, round_: int) -> None:
        for _ in range(20):
            for name, rtype in (("web.prod", "SRV"), ("web.prod", "A"), ("none", "AAAA")):
                node.ask(f"{name}.discovery.internal.", rtype)
        node.ask(f"new{round_}.discovery.internal.", "A")
        node.ask("web.prod.discovery.internal.", "TXT", tcp=True)
        node.ask("www.example.com.", "A")
        odd = dns.message.make_query("x.discovery.internal.", "A", use_edns=1)
        self._send(node, odd.to_wire())  # BADVERS
        odd = dns.message.make_query("x.discovery.internal.", "A")
        odd.set_opcode(dns.opcode.STATUS)
        self._send(node, odd.to_wire())  # NOTIMP
        self._send(node, odd.to_wire()[:2] + b"\0\0\0\1" + bytes(7))  # FORMERR
        first = self.cluster.nodes[0]
        if node is first:
            query = dns.message.make_query("web.prod.discovery.internal.", "A")
            context = client_context()
            dns.query.tls(
                query,
                "127.0.0.1",
                10,
                self.cluster.tls_port,
                ssl_context=context,
                server_hostname="localhost",
            )

    def _send(self, node: RunningNode, packet: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(packet, ("127.0.0.1", node.dns_port))
            sock.recv(4096)


@contextmanager
def traffic(cluster: Cluster) -> Iterator[Traffic]:
    running = Traffic(cluster)
    running.start()
    try:
        yield running
    finally:
        running.stopping.set()
        running.join(LONG)
    assert not running.failed, running.failed


def queries() -> list[str]:
    """The dashboard's, with its variables as a person has chosen them."""
    chosen = {"$job": "discovery", "$node": ".*", "$__rate_interval": "10s"}
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"]
            for variable, value in chosen.items():
                text = text.replace(variable, value)
            found.append(text)
    return found


def is_answered(server: Prometheus, text: str) -> bool:
    """With at least one number."""
    return any(not math.isnan(float(sample["value"][1])) for sample in server.query(text))


def rcodes(server: Prometheus) -> set[str]:
    found = server.query('sum by (rcode) (discovery_dns_responses_total{job="discovery"}) > 0')
    return {sample["metric"]["rcode"] for sample in found}


@pytest.mark.cluster
def test_every_query_of_the_dashboard_is_answered_and_no_alert_fires(
    tmp_path: Path, cluster: Cluster
) -> None:
    targets = [f"127.0.0.1:{node.http_port}" for node in cluster.nodes]
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "discovery", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
        ],
    }
    with prometheus(tmp_path, config) as server, traffic(cluster):
        left = queries()
        assert len(left) > 60

        def none_is_left() -> bool:
            left[:] = [text for text in left if not is_answered(server, text)]
            return not left

        with suppress(AssertionError):
            wait_for(none_is_left, ALL_SHOWN, "every query has its data")
        assert left == []
        wanted = {"NOERROR", "NXDOMAIN", "FORMERR", "NOTIMP", "REFUSED", "BADVERS"}
        wait_for(lambda: rcodes(server) >= wanted, LONG, f"answers with {wanted}")
        transports = server.query("sum by (transport) (discovery_dns_queries_total) > 0")
        assert {sample["metric"]["transport"] for sample in transports} == {"udp", "tcp", "tls"}
        assert {rule["health"] for group in server.get("rules")["groups"] for rule in group["rules"]} == {
            "ok"
        }
        firing = server.query('ALERTS{alertstate="firing"}')
        assert [alert["metric"]["alertname"] for alert in firing] == []


def scraped(node: RunningNode) -> bytes:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=LONG) as response:
        text: bytes = response.read()
    return text


@pytest.mark.cluster
def test_promtool_finds_nothing_wrong_and_the_reference_has_all_there_is(cluster: Cluster) -> None:
    found = set()
    for node in cluster.nodes:
        assert promtool("check", "metrics", given=scraped(node)) == ""
        for family in text_string_to_metric_families(scraped(node).decode()):
            ending = {"counter": "_total"}.get(family.type, "")
            found.add(family.name.removesuffix(ending) + ending)
    assert found == set(metrics_reference.names())
