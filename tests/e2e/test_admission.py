"""dns.allow, dns.deny and dns.rrl on whole nodes, with and without workers."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.query
import pytest

from discovery.sockets import interface_addresses
from tests.support.node import RunningNode, running_node

pytestmark = pytest.mark.e2e
ZONE = "discovery.internal."


def asked(node: RunningNode, source: str, *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(ZONE, "SOA", use_edns=0)
    how = dns.query.tcp if tcp else dns.query.udp
    return how(query, "127.0.0.1", port=node.dns_port, timeout=5, source=source)


@pytest.mark.parametrize("workers", [0, 2])
def test_allow_and_deny(tmp_path: Path, workers: int) -> None:
    settings = ["dns.allow=[127.0.0.0/29]", "dns.deny=[127.0.0.3]", f"dns.workers={workers}"]
    with running_node(tmp_path / "s", settings) as node:
        for tcp in (False, True):
            assert asked(node, "127.0.0.1", tcp=tcp).rcode() == 0
            for source in ("127.0.0.3", "127.0.0.9"):
                response = asked(node, source, tcp=tcp)
                assert response.rcode() == 5
                assert response.options == (dns.edns.EDEOption(dns.edns.EDECode.PROHIBITED),)


def test_rates_hold_for_everybody_but_loopback(tmp_path: Path) -> None:
    """A client beyond loopback: this machine's own address, where it has one."""
    own = next((each for each in interface_addresses(socket.AF_INET) if not each.startswith("127.")), "")
    with running_node(tmp_path / "s", ["dns.listen=['0.0.0.0:0']", "dns.rrl={answers: 5}"]) as node:
        for _ in range(30):
            assert asked(node, "127.0.0.1").answer
        if not own:
            return
        packet = dns.message.make_query(ZONE, "SOA").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((own, 0))
            client.settimeout(5)
            client.connect((own, node.dns_port))
            for _ in range(100):
                client.send(packet)
            whole = cut = 0
            while not (whole >= 5 and cut >= 20):
                response = dns.message.from_wire(client.recv(4096))
                cut += bool(response.flags & dns.flags.TC)
                whole += bool(response.answer)
