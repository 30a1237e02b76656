"""Three nodes whose members speak TLS alone, with the certificates of `discovery cluster certs`."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from prometheus_client.parser import text_string_to_metric_families

from discovery.kv.certificate_files import read_chain, renew
from discovery.kv.certificates import DAY
from tests.support.etcd import free_ports
from tests.support.node import RunningNode, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NAMES = ("n1", "n2", "n3")
AGED = 345 * DAY  # 20 days are left of a year then

SERVICE = {"host": "10.0.0.1", "lease_ttl": 0}
NAME = "web.prod.discovery.internal."


class Site(NamedTuple):
    nodes: list[RunningNode]
    logs: list[Path]
    ports: list[int]  # client and peer of each
    certs: Path


def member(name: str, client: int, peer: int, certs: Path) -> list[str]:
    return [
        "store.engine=managed-etcd",
        f"node.name={name}",
        f"store.member.client=https://127.0.0.1:{client}",
        f"store.member.peer=https://127.0.0.1:{peer}",
        f"store.member.cert={certs / f'{name}.pem'}",
        f"store.member.key={certs / f'{name}-key.pem'}",
        f"store.member.ca={certs / 'ca.pem'}",
    ]


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    certs = folder / "certs"
    renew(
        certs, {name: [f"{name}.example.net"] for name in NAMES}, datetime.datetime.now(datetime.UTC) - AGED
    )
    ports = free_ports(6)
    peers = {name: f"https://127.0.0.1:{ports[2 * number + 1]}" for number, name in enumerate(NAMES)}
    cluster = ", ".join(f"{name}: '{url}'" for name, url in peers.items())
    logs = [folder / f"{name}.log" for name in NAMES]
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                running_node(
                    folder / name,
                    [
                        *member(name, ports[2 * number], ports[2 * number + 1], certs),
                        f"store.member.initial_cluster={{{cluster}}}",
                    ],
                    log=logs[number],
                )
            )
            for number, name in enumerate(NAMES)
        ]
        wait_for(
            lambda: all(node.call("GET", "/readyz?writes")[0] == 200 for node in nodes),
            120,
            "all take writes",
        )
        yield Site(nodes, logs, ports, certs)


def shown(port: int, context: ssl.SSLContext) -> bytes:
    """The certificate that is shown there, in DER, to a client that is let in."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert tls.recv(16), "it ended the connection"
        certificate = tls.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def test_three_members_over_tls_let_nobody_in_without_a_certificate_and_take_renewed_ones(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as all_:
        assert all_.nodes[0].call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 201
        wait_for(
            lambda: all(node.answers(NAME, "A") == ["10.0.0.1"] for node in all_.nodes),
            60,
            "all have it",
        )
        members = all_.nodes[2].call("GET", "/v1/cluster")[1]["store"]["members"]
        assert [member["healthy"] for member in members] == [True] * 3

        # without a certificate, and with one of another authority, nobody is let in, on either port
        stranger = ssl.create_default_context(cafile=str(all_.certs / "ca.pem"))
        renew(tmp_path / "other", {"x": ["127.0.0.1"]}, datetime.datetime.now(datetime.UTC))
        other = ssl.create_default_context(cafile=str(all_.certs / "ca.pem"))
        other.load_cert_chain(tmp_path / "other" / "x.pem", tmp_path / "other" / "x-key.pem")
        for port in all_.ports:
            for context in (stranger, other):
                with pytest.raises(OSError):  # an alert, or the end
                    shown(port, context)
            with pytest.raises(OSError):  # plain HTTP: 400, or closed
                urllib.request.urlopen(f"http://127.0.0.1:{port}/members", timeout=5)

        # what ends soon is in the log, once, and in the metrics
        for log in all_.logs:
            told = [line for line in log.read_text().splitlines() if "store.member.cert ends in" in line]
            assert len(told) == 1
            assert "ends in 19 days" in told[0]
        with urllib.request.urlopen(f"{all_.nodes[0].url}/metrics", timeout=5) as answer:
            left = {
                sample.labels["setting"]: sample.value
                for family in text_string_to_metric_families(answer.read().decode())
                for sample in family.samples
                if sample.name == "discovery_certificate_expires_seconds"
            }
        assert 19 * 86400 < left["store.member.cert"] < 20 * 86400
        assert left["store.member.ca"] > 365 * 86400

        # etcd shows a renewed one to the next who comes, without a restart
        renew(all_.certs, {}, datetime.datetime.now(datetime.UTC))
        known = ssl.create_default_context(cafile=str(all_.certs / "ca.pem"))
        known.load_cert_chain(all_.certs / "n1.pem", all_.certs / "n1-key.pem")
        for number, port in enumerate(all_.ports):
            renewed = read_chain(all_.certs / f"{NAMES[number // 2]}.pem")[0]
            assert renewed.not_valid_before_utc > datetime.datetime.now(datetime.UTC) - DAY
            assert shown(port, known) == renewed.public_bytes(serialization.Encoding.DER)
        assert all_.nodes[1].call("PUT", "/v1/services/web.prod/i2", {"host": "10.0.0.2"})[0] == 201


def test_a_cluster_over_tls_is_recovered_from_a_snapshot_and_grows_again(tmp_path: Path) -> None:
    snapshot = tmp_path / "copy.db"
    with site(tmp_path) as all_:
        assert all_.nodes[0].call("PUT", "/v1/services/web.prod/i1", SERVICE)[0] == 201
        done = run_discovery("cluster", "snapshot", str(snapshot), "--node", all_.nodes[1].url, timeout=60)
        assert done.returncode == 0, done.stderr
        ports, certs = all_.ports, all_.certs
    first, second = (
        [*member(name, ports[2 * number], ports[2 * number + 1], certs), f"store.path={tmp_path / name}"]
        for number, name in enumerate(NAMES[:2])
    )
    sets = [word for each in first for word in ("--set", each)]
    done = run_discovery("cluster", "recover", "--from", str(snapshot), *sets, timeout=120)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / NAMES[1])
    joining = [*second, f"store.member.join=https://127.0.0.1:{ports[0]}"]
    with (
        running_node(tmp_path / NAMES[0], first) as alone,
        running_node(tmp_path / NAMES[1], joining) as joined,
    ):
        wait_for(
            lambda: (
                [each["role"] for each in alone.call("GET", "/v1/cluster")[1]["store"]["members"]].count(
                    "follower"
                )
                == 1
            ),
            90,
            "the second votes",
        )
        for node in (alone, joined):
            wait_for(
                lambda node=node: node.answers(NAME, "A") == ["10.0.0.1"],  # type: ignore[misc]  # a default binds it
                60,
                "it is in DNS",
            )
