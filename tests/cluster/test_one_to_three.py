"""From one machine to three, while services beat and clients ask.

deploy/one-to-three.md as it stands, on loopback. The parent holds the DNS sockets, as systemd does: what comes while
the node is restarted waits in them. HTTP clients are refused meanwhile.
"""

from __future__ import annotations

import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.etcd import free_ports
from tests.support.moving_load import EACH, SERVICES, ZONE, Load, address, name
from tests.support.node import (
    DISCOVERY,
    ROOT,
    RunningNode,
    environment,
    run_discovery,
    running_node,
    wait_for,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.e2e]

PAGE = (ROOT / "deploy" / "one-to-three.md").read_text()
PARENT = (
    "import os, sys; [os.dup2(int(each), number) for number, each in enumerate(sys.argv[1:3], 3)];"
    "os.environ |= {'LISTEN_FDS': '2', 'LISTEN_PID': str(os.getpid()), 'LISTEN_FDNAMES': 'dns:dns'};"
    "os.execv(sys.argv[3], sys.argv[3:])"
)
STEADY = 4.0  # seconds of load before and after


def configuration(number: int, ports: Sequence[int], folder: Path) -> list[str]:
    """The page's file of that machine, on loopback, as arguments."""
    (text,) = re.findall(rf"^```yaml\n# n{number}: .*?\n(.*?)^```$", PAGE, re.M | re.S)
    for machine in (1, 2, 3):
        for port in (2379, 2380):
            mine = ports[2 * (machine - 1) + port - 2379]
            text = text.replace(f"10.0.0.{machine}:{port}", f"127.0.0.1:{mine}")
    assert "10.0.0." not in text
    file = folder / f"n{number}.yaml"
    file.write_text(text)
    return ["--config", str(file)]


def commands() -> list[tuple[str, str]]:
    """What the page says to type: the machine and the line."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
    return re.findall(r"^(n\d)\$ (.*)$", "\n".join(blocks), re.M)


def test_what_is_typed_below_is_what_the_page_says() -> None:
    assert commands() == [
        ("n1", "discovery config check"),
        ("n1", "discovery cluster init"),
        ("n1", "systemctl restart discovery"),
        ("n2", "systemctl start discovery"),
        ("n3", "systemctl start discovery"),
        ("n1", "discovery cluster status"),
    ]


def test_from_one_to_three_under_load(tmp_path: Path, rng: random.Random) -> None:
    ports = free_ports(7)
    store = tmp_path / "n1"
    http = [f"http.listen=['127.0.0.1:{ports[6]}']"]
    first = configuration(1, ports, tmp_path)
    with ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        tcp = stack.enter_context(socket.create_server(udp.getsockname()))
        held = [udp.fileno(), tcp.fileno()]
        under = (sys.executable, "-c", PARENT, *map(str, held))
        with running_node(store, http, under=under, pass_fds=held) as node:
            load = stack.enter_context(Load(node.dns_port, node.http_port, rng))
            passes(STEADY)
            at = ["--set", f"store.path={store}"]
            assert run_discovery("config", "check", *first, *at).returncode == 0
            command = [*DISCOVERY, "cluster", "init", *first, *at]
            moving = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
            )
            assert moving.stdout is not None
            assert "Restart the node now" in moving.stdout.readline()
            passes(STEADY)  # nobody has to hurry
            gap = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            node.process.wait(30)
        nodes = [
            stack.enter_context(
                running_node(store, http, before=first, under=under, pass_fds=held, log=tmp_path / "log")
            )
        ]
        gap = time.monotonic() - gap
        assert moving.wait(30) == 0
        assert f"{SERVICES * EACH} leases are in the cluster" in moving.stdout.read()
        passes(STEADY)
        for number in (2, 3):
            before = configuration(number, ports, tmp_path)
            nodes.append(stack.enter_context(running_node(tmp_path / f"n{number}", before=before)))
            wait_for(lambda: votes(nodes[0]) == len(nodes), 60, f"node {number} votes")
        passes(STEADY)
        for node in nodes:
            for number in rng.sample(range(SERVICES * EACH), 50):
                service, instance = name(number)
                assert node.answers(f"{instance}.{service}.{ZONE}", "A") == [address(number)]
            assert sum(each["instances"] for each in services(node)) == SERVICES * EACH
        status = run_discovery("cluster", "status", "--node", nodes[0].url)
        assert status.returncode == 0, status.stdout + status.stderr
        load.__exit__()
        print(f"\nfrom SIGTERM to the line Ready: {gap:.2f} s. {load}")
        assert load.failure is None
        assert not load.missing, "a lease ran out"
        assert (load.unanswered, load.wrong, load.backwards) == (0, [], [])


def passes(seconds: float) -> None:
    select.select([], [], [], seconds)


def votes(node: RunningNode) -> int:
    members = node.call("GET", "/v1/cluster")[1]["store"]["members"]
    return sum(each["role"] in ("leader", "follower") for each in members)


def services(node: RunningNode) -> list[dict[str, int]]:
    status, answer = node.call("GET", "/v1/services?limit=1000")
    assert status == 200
    found: list[dict[str, int]] = answer["services"]
    return found
