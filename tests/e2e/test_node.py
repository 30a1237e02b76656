"""The first whole path: register over HTTP, be found over DNS, beat, fall silent, restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import dns.flags
import dns.rcode
import dns.rdatatype
import pytest

from discovery.kv.moved import MOVING
from discovery.kv.sqlite_file import DirectoryLock
from tests.support.node import DISCOVERY, ROOT, environment, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

INSTANCE = "/v1/services/web.prod/i1"
NAME = "web.prod.discovery.internal."


def test_a_service_registers_beats_falls_silent_and_is_gone(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        status, body = node.call("PUT", INSTANCE, {"host": "10.0.0.1", "port": 80, "lease_ttl": 2})
        assert status == 201
        assert body["heartbeat_every"] < 2
        assert node.answers(NAME, "SRV") == [f"10 100 80 i1.{NAME}"]
        assert node.answers(NAME, "A") == ["10.0.0.1"]

        begin = beaten = time.monotonic()
        while beaten - begin < 5:
            assert node.call("POST", f"{INSTANCE}/heartbeat")[0] == 200
            beaten = time.monotonic()
            while time.monotonic() - beaten < 0.4:
                assert node.answers(NAME, "A") == ["10.0.0.1"]

        wait_for(lambda: node.answers(NAME, "A") == [], 3.5, "gone after silence")
        silence = time.monotonic() - beaten
        assert 2 <= silence <= 3.4  # never before its TTL, and within a second after it
        reply = node.ask(NAME, "A")
        assert reply.rcode() == dns.rcode.NOERROR
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
        assert reply.flags & dns.flags.AA


def test_kill_9_loses_no_registration(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        for number in range(20):
            assert (
                node.call("PUT", f"/v1/services/web.prod/i{number}", {"host": f"10.0.0.{number}"})[0] == 201
            )
        node.kill()
    with running_node(tmp_path / "store") as node:
        assert len(node.answers(NAME, "A")) == 20
        assert node.call("POST", f"{INSTANCE}/heartbeat")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_two_seconds_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """With an idle connection to each port and a PUT that never ends."""
    with (
        running_node(tmp_path / "store") as node,
        socket.create_connection(("127.0.0.1", node.http_port)),
        socket.create_connection(("127.0.0.1", node.dns_port)),
        socket.create_connection(("127.0.0.1", node.http_port)) as half,
    ):
        half.sendall(b"PUT /v1/services/web.prod/i2 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        begin = time.monotonic()
        node.process.send_signal(number)
        assert node.process.wait(10) == 0
        assert time.monotonic() - begin < 2
    with running_node(tmp_path / "store") as node:
        assert node.answers(NAME, "A") == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (socket.SOCK_DGRAM, "dns.listen"),
        (socket.SOCK_STREAM, "dns.listen"),
        (socket.SOCK_STREAM, "http.listen"),
    ],
)
def test_a_taken_port_is_one_clear_line(tmp_path: Path, kind: socket.SocketKind, setting: str) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        other = {"dns.listen": "http.listen", "http.listen": "dns.listen"}[setting]
        done = run_discovery(
            "serve",
            *("--set", f"{setting}=['127.0.0.1:{port}']"),
            *("--set", f"{other}=['127.0.0.1:0']"),
            *("--set", f"store.path={tmp_path / 'store'}"),
        )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert setting in line
    assert "in use" in line


def test_a_second_node_on_the_same_ports_or_store_is_refused(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        ports = ("--set", f"dns.listen=['127.0.0.1:{node.dns_port}']", "--set", "http.listen=['127.0.0.1:0']")
        done = run_discovery("serve", *ports, "--set", f"store.path={tmp_path / 'other'}")
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
        free = ("--set", "dns.listen=['127.0.0.1:0']", "--set", "http.listen=['127.0.0.1:0']")
        done = run_discovery("serve", *free, "--set", f"store.path={tmp_path / 'store'}")
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
        assert str(tmp_path / "store") in done.stderr
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201


def test_a_store_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    free = ("--set", "dns.listen=['127.0.0.1:0']", "--set", "http.listen=['127.0.0.1:0']")
    done = run_discovery("serve", *free, "--set", f"store.path={tmp_path / 'file'}")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    (tmp_path / "bad.yaml").write_text("dns:\n  lisen: []\n")
    done = run_discovery("--config", str(tmp_path / "bad.yaml"), "serve")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "dns.listen" in done.stderr
    assert "bad.yaml" in done.stderr


def test_bad_input_is_told_so_and_the_node_goes_on(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        status, problem = node.call("PUT", INSTANCE, {"hostt": "10.0.0.2"})
        assert (status, problem["status"]) == (400, 400)
        assert "hostt" in problem["detail"]
        status, problem = node.call("PUT", INSTANCE, {"host": "10.0.0.2", "port": 70000})
        assert (status, problem["field"]) == (400, "port")
        assert node.call("PUT", INSTANCE, b"{not json")[0] == 400
        assert node.call("PUT", INSTANCE, b'{"text":"' + b"x" * (2 << 20) + b'"}')[0] == 413
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", node.dns_port))
            for packet in (b"", b"\0" * 11, b"\xff" * 12, os.urandom(512), b"\1" * 4000):
                sock.send(packet)
            sock.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\x3fcut")
            answers = [sock.recv(512)]
            while answers[-1][:2] != b"\x12\x34":
                answers.append(sock.recv(512))
            assert answers[-1][3] & 15 == dns.rcode.FORMERR
        assert node.answers(NAME, "A") == ["10.0.0.1"]


def test_a_reload_takes_over_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "discovery.yaml"
    file.write_text("log: {queries: false}\n")
    log = tmp_path / "log"
    with running_node(tmp_path / "store", before=["--config", str(file)], log=log) as node:
        file.write_text("log: {queries: true}\nstale_after: 7\n")
        assert node.call("POST", "/v1/config/reload") == (200, {"restart_needed": ["stale_after"]})
        node.ask(NAME, "A")
        wait_for(
            lambda: "qname=web.prod.discovery.internal." in log.read_text(), 5, "a line for the question"
        )
        file.write_text("log: {queries: false}\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.read_text().count("configuration reloaded") == 2, 30, "reloaded by SIGHUP")
        node.ask("other." + NAME, "A")
        file.write_text("log: {querys: true}\n")
        status, problem = node.call("POST", "/v1/config/reload")
        assert (status, "querys" in problem["detail"]) == (400, True)
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration not reloaded" in log.read_text(), 30, "told that it is wrong")
        assert "qname=other." not in log.read_text()


def test_a_reload_changes_who_may_ask(tmp_path: Path) -> None:
    file = tmp_path / "discovery.yaml"
    for sets in ((), ("dns.workers=1",)):
        file.write_text("dns: {deny: [192.0.2.0/24]}\n")
        with running_node(tmp_path / f"store{len(sets)}", sets, before=["--config", str(file)]) as node:
            assert node.ask(NAME, "A").rcode() == dns.rcode.NXDOMAIN
            file.write_text("dns: {deny: [loopback], rrl: {errors: 5}}\n")
            assert node.call("POST", "/v1/config/reload") == (200, {"restart_needed": []})
            wait_for(lambda: node.ask(NAME, "A").rcode() == dns.rcode.REFUSED, 30, "nobody may ask")
            file.write_text("dns: {allow: [loopback]}\n")
            node.process.send_signal(signal.SIGHUP)
            wait_for(lambda: node.ask(NAME, "A").rcode() == dns.rcode.NXDOMAIN, 30, "this machine may ask")


def test_a_reload_changes_how_many_may_connect(tmp_path: Path) -> None:
    file = tmp_path / "discovery.yaml"
    file.write_text("{}\n")

    def is_answered() -> bool:
        try:
            return node.call("GET", "/healthz")[0] == 200
        except OSError:  # closed at once
            return False

    with running_node(tmp_path / "store", before=["--config", str(file)]) as node:
        url = urlsplit(node.url)
        with socket.create_connection((url.hostname, url.port), timeout=30) as held:
            held.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert held.recv(15) == b"HTTP/1.1 200 OK"
            file.write_text("http: {max_connections: 1}\n")
            assert node.call("POST", "/v1/config/reload") == (200, {"restart_needed": []})
            assert not is_answered()
        wait_for(is_answered, 30, "there is room again")


def test_a_full_disk_is_503_and_dns_goes_on(tmp_path: Path) -> None:
    """On a tmpfs of 2 MiB in a mount namespace of the node's own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=2m tmpfs {disk} && exec "$@"'
    under = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
    with running_node(disk / "store", under=under, log=tmp_path / "log") as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
        outcome = [
            node.call("PUT", f"/v1/services/big/i{n}", {"host": "", "text": "x" * 50000}) for n in range(60)
        ]
        full = [problem for status, problem in outcome if status == 503]
        assert full
        assert "space" in full[0]["detail"]
        assert full[0]["type"].endswith("no-space")
        assert node.answers(NAME, "A") == ["10.0.0.1"]
        assert node.call("GET", INSTANCE)[0] == 200
        assert node.call("POST", f"{INSTANCE}/heartbeat")[0] == 200
        assert node.process.poll() is None


def test_the_installed_command_and_the_module_are_one() -> None:
    command = Path(sys.executable).with_name("discovery")
    installed = subprocess.run([command, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert installed.stdout == run_discovery("--version").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_still_waits_for_others_stops_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """As while `discovery cluster init` is at work, for as long as its operator likes."""
    store = tmp_path / "store"
    with running_node(store) as node:
        assert node.call("PUT", INSTANCE, {"host": "10.0.0.1"})[0] == 201
    moving = DirectoryLock(store / MOVING)
    sets = [
        f"store.path={store}",
        "store.engine=managed-etcd",
        "dns.listen=['127.0.0.1:0']",
        "http.listen=['127.0.0.1:0']",
    ]
    log = tmp_path / "waiting.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*DISCOVERY, "serve", *(word for each in sets for word in ("--set", each))],
            cwd=ROOT,
            stdout=errors,
            stderr=errors,
            env=environment(),
        )
    try:
        wait_for(lambda: "waiting for `discovery cluster init`" in log.read_text(), 60, "it waits")
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        moving.release()
    assert "Traceback" not in log.read_text()


def test_a_node_that_is_told_to_stop_answers_on_for_its_stop_delay(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", ["node.stop_delay=60"]) as node:
        node.call("PUT", "/v1/services/web.prod/i1", {"host": "10.0.0.1", "lease_ttl": 60})
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: node.call("GET", "/readyz")[0] == 503, 60, "it says that it is going")
        assert node.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1"]
        assert node.process.poll() is None
        node.process.send_signal(signal.SIGTERM)  # for whoever cannot wait
        assert node.process.wait(10) == 0
