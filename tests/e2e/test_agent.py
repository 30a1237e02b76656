"""`discovery agent`: each of a host's services is in DNS exactly while it should be."""

from __future__ import annotations

import http.server
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.node import DISCOVERY, RunningNode, running_node, wait_for
from tests.support.programs import LONG, Clock, beats, in_dns, ports, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LEASE = 1  # seconds, the shortest


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(tmp_path / "store") as running:
        yield running


def declare(folder: Path, *services: str, lease_ttl: int = LEASE) -> Path:
    """The agent's file, put in the old one's place."""
    lines = [f"  - {{{service}, host: 10.0.0.1, ttl: 1}}" for service in services]
    new = folder / "agent.new"
    new.write_text("\n".join([f"lease_ttl: {lease_ttl}", "services:", *lines, ""]))
    return new.rename(folder / "agent.yaml")


@contextmanager
def running(
    node: RunningNode, folder: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [*DISCOVERY, "agent", "--node", node.url, str(folder / "agent.yaml")]
    with program(command, folder / "agent.log", env) as process:
        yield process


def log(folder: Path, text: str) -> None:
    wait_for(lambda: text in (folder / "agent.log").read_text(), LONG, f"{text!r} in the log")


def revision(node: RunningNode, service: str) -> int:
    (instance,) = node.call("GET", f"/v1/services/{service}")[1]["instances"]
    return int(instance["revision"])


def test_each_is_in_dns_only_while_its_check_passes(node: RunningNode, tmp_path: Path) -> None:
    well = tmp_path / "well"
    check = f"check: {{command: [test, -e, {well}], every: 0.1, rise: 2, fall: 2}}"
    declare(tmp_path, "service: web, port: 80", f"service: web, port: 81, {check}")
    with running(node, tmp_path):
        in_dns(node, "web", 80)
        for _ in range(2):
            well.touch()
            in_dns(node, "web", 80, 81)
            well.unlink()
            in_dns(node, "web", 80)


def test_checks_over_the_network(node: RunningNode, tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    listening = socket.create_server(("127.0.0.1", 0))
    port, tcp_port = server.server_port, listening.getsockname()[1]
    often = "every: 0.2, fall: 1"
    zone = "discovery.internal"
    declare(
        tmp_path,
        f'service: web, port: 80, check: {{http: "http://127.0.0.1:{port}/README.md", {often}}}',
        f'service: web, port: 81, check: {{http: "http://127.0.0.1:{port}/nothing", {often}}}',
        f'service: web, port: 82, check: {{tcp: "127.0.0.1:{tcp_port}", {often}}}',
        f'service: web, port: 83, check: {{dns: {{server: "127.0.0.1:{node.dns_port}", name: {zone}, type: SOA}}}}',
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with running(node, tmp_path):
            in_dns(node, "web", 80, 82, 83)
            listening.close()
            in_dns(node, "web", 80, 83)
            server.shutdown()
            server.server_close()
            in_dns(node, "web", 83)
    finally:
        server.shutdown()
        server.server_close()
        listening.close()
        thread.join()


@pytest.mark.parametrize("how", ["the file changes", "SIGHUP"])
def test_a_reload_touches_only_what_is_another(node: RunningNode, tmp_path: Path, how: str) -> None:
    declare(
        tmp_path, "service: same, port: 80", "service: web, port: 80", "service: gone, port: 80", lease_ttl=60
    )
    with running(node, tmp_path) as process:
        for service in ("same", "web", "gone"):
            in_dns(node, service, 80)
        before = revision(node, "same")
        declare(
            tmp_path, "service: same, port: 80", "service: web, port: 80, weight: 7", "service: new, port: 80"
        )
        if how == "SIGHUP":
            process.send_signal(signal.SIGHUP)
        in_dns(node, "gone")
        in_dns(node, "new", 80)
        wait_for(
            lambda: node.call("GET", "/v1/services/web")[1]["instances"][0]["weight"] == 7, LONG, "the weight"
        )
        assert revision(node, "same") == before

        (tmp_path / "agent.yaml").write_text("services: [{service: web, prot: 1}]")
        log(tmp_path, "there is no such key; going on as before")
        assert ports(node, "new") == {80}
        declare(tmp_path, "service: same, port: 80")
        in_dns(node, "new")
        assert revision(node, "same") == before


def test_a_changed_check_begins_where_the_old_one_was(node: RunningNode, tmp_path: Path) -> None:
    """So that nothing leaves DNS for a moment."""
    declare(tmp_path, "service: web, port: 80, check: {command: 'true', every: 0.1}", lease_ttl=9)
    with running(node, tmp_path):
        in_dns(node, "web", 80)
        before = revision(node, "web")
        declare(tmp_path, "service: web, port: 80, check: {command: 'true', every: 0.2}")
        log(tmp_path, "again")
        beats(node)
        assert revision(node, "web") == before
        declare(tmp_path, "service: web, port: 80, check: {command: 'false', every: 0.1}")
        in_dns(node, "web")


def test_it_leaves_dns_at_the_end_and_waits(node: RunningNode, tmp_path: Path) -> None:
    declare(tmp_path, "service: web, port: 80", "service: web, port: 81")
    with running(node, tmp_path) as process:
        in_dns(node, "web", 80, 81)
        process.terminate()
        in_dns(node, "web")
        assert process.wait(LONG) == 0
    assert node.call("GET", "/v1/services/web")[1]["instances"] == []


def test_killed_all_is_out_with_its_lease_and_back_with_it(node: RunningNode, tmp_path: Path) -> None:
    declare(tmp_path, "service: web, port: 80", "service: web, port: 81")
    with running(node, tmp_path) as process:
        in_dns(node, "web", 80, 81)
        process.kill()
        process.wait()
        in_dns(node, "web")
    with running(node, tmp_path):
        in_dns(node, "web", 80, 81)
        beats(node)
        in_dns(node, "web", 80, 81)


def test_a_crash_and_a_start_within_the_lease_leave_no_gap(node: RunningNode, tmp_path: Path) -> None:
    declare(tmp_path, "service: web, port: 80", lease_ttl=600)
    with running(node, tmp_path) as process:
        in_dns(node, "web", 80)
        process.kill()
        process.wait()
    assert ports(node, "web") == {80}
    lease = node.call("GET", "/v1/services/web")[1]["instances"][0]["lease"]
    with running(node, tmp_path):
        log(tmp_path, "registered")
        wait_for(
            lambda: node.call("GET", "/v1/services/web")[1]["instances"][0]["lease"] != lease,
            LONG,
            "the new lease",
        )
        assert ports(node, "web") == {80}


def test_without_a_node_and_with_one_that_goes_and_comes_back(tmp_path: Path) -> None:
    """It is away for three times the lease; what fails meanwhile is out when it is back."""
    well = tmp_path / "well"
    well.touch()
    check = f"check: {{command: [test, -e, {well}], every: 0.1, fall: 2}}"
    declare(tmp_path, "service: web, port: 80", f"service: web, port: 81, {check}")
    with running_node(tmp_path / "store") as first:
        again = [f"http.listen=['127.0.0.1:{first.http_port}']"]
    with running(first, tmp_path) as process:
        log(tmp_path, "trying again")
        with running_node(tmp_path / "store", again) as node:
            in_dns(node, "web", 80, 81)
            node.kill()
            time.sleep(3 * LEASE)
            well.unlink()
            log(tmp_path, "its check fails")
        with running_node(tmp_path / "store", again) as node:
            in_dns(node, "web", 80)
            beats(node)
            in_dns(node, "web", 80)
        assert process.poll() is None


def test_a_step_of_the_clock_does_nothing(node: RunningNode, tmp_path: Path) -> None:
    clock, now = Clock(tmp_path), tmp_path / "now"
    check = f'check: {{command: [sh, -c, "date +%s > {now}"], every: 0.2, timeout: 30}}'
    declare(tmp_path, f"service: web, port: 80, {check}", lease_ttl=9)
    with running(node, tmp_path, clock.env):
        in_dns(node, "web", 80)
        before = revision(node, "web")
        for days in (1, -1, 0):
            clock.step(days * 86400)
            wait_for(
                lambda days=days: abs(int(now.read_text() or 0) - time.time() - days * 86400) < 3600,  # type: ignore[misc]
                LONG,
                "its check sees the step",
            )
            beats(node)
            assert ports(node, "web") == {80}
        assert revision(node, "web") == before


def test_systemd_is_told(node: RunningNode, tmp_path: Path) -> None:
    declare(tmp_path, "service: web, port: 80")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LONG)
        told: list[str] = []

        def until_told(line: str) -> None:
            while not any(line in each for each in told):
                told.append(systemd.recv(512).decode())

        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with running(node, tmp_path, env) as process:
            until_told("READY=1")
            until_told("STATUS=1 of 1 services are registered")
            until_told("WATCHDOG=1")
            told.clear()
            process.send_signal(signal.SIGHUP)
            until_told("RELOADING=1")
            until_told("READY=1")
            process.terminate()
            until_told("STOPPING=1")
            assert process.wait(LONG) == 0


def test_a_file_that_cannot_be_used_ends_the_start(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("services:\n  - service: web\n    prot: 80\n")
    with running(node, tmp_path) as process:
        assert process.wait(LONG) == 2
    assert "agent.yaml:3: services[0].prot: there is no such key" in (tmp_path / "agent.log").read_text()
