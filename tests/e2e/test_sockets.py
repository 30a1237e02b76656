"""A whole node on sockets of every kind: several addresses, wildcards, and sockets that its parent has opened."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.node import running_node

pytestmark = pytest.mark.e2e

# What systemd does, but that it takes free ports: opens sockets, says so in the environment, becomes the program.
PARENT = """
import os, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.create_server(("127.0.0.1", 0))
udp.bind(tcp.getsockname())
http = socket.create_server(("127.0.0.1", 0))
held = [os.dup(each.fileno()) for each in (udp, tcp, http)]
for number, descriptor in enumerate(held, 3):
    os.dup2(descriptor, number)
os.environ |= {"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "dns:dns:http"}
os.execv(sys.argv[1], sys.argv[1:])
"""


def query() -> dns.message.Message:
    return dns.message.make_query("discovery.internal.", "SOA")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_wildcard_answers_from_each_address_that_is_asked(tmp_path: Path, workers: int) -> None:
    settings = ["dns.listen=['0.0.0.0:0', '[::]:0']", f"dns.workers={workers}"]
    with running_node(tmp_path / "s", settings) as node:
        v4, v6 = (int(line.rsplit(":", 1)[1].split()[0]) for line in node.lines if line.startswith("DNS"))
        for host, port in (("127.0.0.1", v4), ("127.0.0.5", v4), ("::1", v6)):
            # dnspython raises UnexpectedSource for an answer from elsewhere
            assert dns.query.udp(query(), host, port=port, timeout=5).rcode() == 0
            assert dns.query.tcp(query(), host, port=port, timeout=5).rcode() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_sockets_that_the_parent_opened(tmp_path: Path, workers: int) -> None:
    settings = [f"dns.workers={workers}"]
    with running_node(tmp_path / "s", settings, under=(sys.executable, "-c", PARENT)) as node:
        assert node.call("PUT", "/v1/services/web/i1", {"host": "10.0.0.1"})[0] == 201
        for tcp in (False, True):
            assert node.ask("web.discovery.internal.", "A", tcp=tcp).rcode() == 0


def test_questions_that_came_before_the_node_was_there_are_answered(tmp_path: Path) -> None:
    """What socket activation is for: the parent holds the socket while nobody answers."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        udp.bind(tcp.getsockname())
        early = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        early.settimeout(30)
        early.sendto(query().to_wire(), udp.getsockname())
        parent = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
            "os.environ |= {'LISTEN_FDS': '2', 'LISTEN_PID': str(os.getpid())};"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        inherited = [fd.fileno() for fd in (udp, tcp)]
        under = (sys.executable, "-c", parent, *map(str, inherited))
        begin = time.monotonic()
        with running_node(tmp_path / "s", under=under, pass_fds=inherited):
            answer = dns.message.from_wire(early.recv(4096))
        early.close()
        assert answer.rcode() in (0, 2), time.monotonic() - begin  # 2: not ready as yet
