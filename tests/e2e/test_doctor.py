"""`discovery doctor` beside a running node: all is well; then a bad record, a taken port, a dead resolver."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import RunningNode, run_discovery, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT = 120  # seconds


def look(node: RunningNode, store: Path, *more: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and the findings by their check."""
    sets = (
        f"http.listen=['127.0.0.1:{node.http_port}']",
        f"dns.listen=['127.0.0.1:{node.dns_port}']",
        f"store.path={store}",
    )
    words = [word for each in sets for word in ("--set", each)]
    done = run_discovery("doctor", *words, *more, "--output", "json", timeout=LIMIT)
    assert done.stderr == ""
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return done.returncode, found


def test_a_node_is_looked_at_from_all_sides(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running_node(store) as node:
        good = ("--resolver", f"127.0.0.1:{node.dns_port}")
        status, found = look(node, store, *good)
        assert status == 0, [each for found in found.values() for each in found if each["verdict"] == "wrong"]
        node_ports = [each["said"] for each in found["ports"]]
        assert len(node_ports) == 3
        assert all(said.endswith(f"is a node's (pid {node.process.pid})") for said in node_ports), node_ports
        for check in ("dns", "delegation", "store", "records", "version", "nodes", "permissions"):
            assert {each["verdict"] for each in found[check]} == {"ok"}, found[check]
        assert any("seen from here" in each["said"] for each in found["clock"])

        node.call("PUT", "/v2/keys/skydns/internal/discovery/bad/1?value=nonsense")
        status, found = look(node, store, *good)
        (records,) = found["records"]
        assert (status, records["verdict"]) == (0, "warning")
        assert "/skydns/internal/discovery/bad/1 (" in records["said"]
        assert records["do"]

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{silent.getsockname()[1]}"
            status, found = look(node, store, "--resolver", dead)
        assert (status, found["delegation"][0]["verdict"]) == (1, "wrong")
        assert found["delegation"][0]["said"] == f"the resolver {dead} does not answer"

        status, found = look(node, store, *good, "--set", "zones=[{name: elsewhere.example}]")
        assert status == 1
        assert "does not answer for elsewhere.example." in found["dns"][0]["said"]

        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"dns.tls_listen=['127.0.0.1:{other.getsockname()[1]}']"
            cert = f"dns.tls={{cert: {tmp_path / 'gone.pem'}}}"
            status, found = look(node, store, *good, "--set", listen, "--set", cert)
        assert status == 1
        assert any(
            f"(pid {os.getpid()})" in each["said"] for each in found["ports"] if each["verdict"] == "wrong"
        )
        assert any("there is no file" in each["said"] for each in found["permissions"])


# Systemd's last step before the program: the sockets are where LISTEN_FDS says, and the parent keeps them as well.
HAND_ON = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
    "os.environ |= {'LISTEN_FDS': '2', 'LISTEN_PID': str(os.getpid())};"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def test_sockets_that_the_nodes_parent_holds_are_the_nodes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        udp.bind(tcp.getsockname())
        held = (udp.fileno(), tcp.fileno())
        with running_node(
            store, under=(sys.executable, "-c", HAND_ON, *map(str, held)), pass_fds=held
        ) as node:
            status, found = look(node, store, "--resolver", f"127.0.0.1:{node.dns_port}")
    said = [each["said"] for each in found["ports"]]
    assert len(said) == 3
    assert all(one.endswith(f"is a node's (pid {node.process.pid})") for one in said), said
    assert status == 0, found
