"""The store of a running node, from the outside: a stall, a mass expiry, and a way back from a snapshot."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.support.node import RunningNode, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "web.prod.discovery.internal."
TTL = 2


def register(node: RunningNode, count: int, ttl: int) -> list[str]:
    paths = [f"/v1/services/web.prod/i{number}" for number in range(count)]
    for number, path in enumerate(paths):
        assert node.call("PUT", path, {"host": f"10.0.0.{number + 1}", "lease_ttl": ttl})[0] == 201
    return paths


def revision(node: RunningNode) -> int:
    return int(node.call("GET", "/v1/store")[1]["revision"])


def passes(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, seconds + 5, "time")


def test_a_stopped_node_that_goes_on_loses_no_service(tmp_path: Path) -> None:
    """SIGSTOP for three TTLs: nobody could beat meanwhile."""
    log = tmp_path / "log"
    with running_node(tmp_path / "store", log=log) as node:
        paths = register(node, 2, TTL)
        before = revision(node)
        os.kill(node.process.pid, signal.SIGSTOP)
        try:
            passes(3 * TTL)
        finally:
            os.kill(node.process.pid, signal.SIGCONT)
        assert len(node.answers(NAME, "A")) == 2
        end = time.monotonic() + 2 * TTL
        while time.monotonic() < end:
            for path in paths:
                assert node.call("POST", f"{path}/heartbeat")[0] == 200
            assert len(node.answers(NAME, "A")) == 2
            passes(TTL / 4)
        assert revision(node) == before
        assert node.call("GET", "/v1/store")[1]["stalls"] == 1
        assert "every lease has its full TTL again" in log.read_text()
        wait_for(lambda: not node.answers(NAME, "A"), 2 * TTL + 30, "silence ends them all the same")


def test_a_mass_expiry_is_held_once_and_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_node(tmp_path / "store", log=log) as node:
        begin = time.monotonic()
        paths = register(node, 4, TTL)
        took = wait_for(lambda: len(node.answers(NAME, "A")) < 4, 4 * TTL, "they end after all")
        assert time.monotonic() - begin >= 2 * TTL
        assert took <= 2 * TTL + 2
        wait_for(lambda: not node.answers(NAME, "A"), 30, "all of them")
        assert node.call("GET", "/v1/store")[1]["leases_held"] == 4
        assert "run out at once" in log.read_text()
        register(node, 4, 60)
        for path in paths:
            assert node.call("DELETE", path)[0] == 204
        assert not node.answers(NAME, "A")


def test_without_the_guard_they_end_at_their_time(tmp_path: Path) -> None:
    with running_node(tmp_path / "store", ["leases.guard=0"]) as node:
        register(node, 4, TTL)
        assert wait_for(lambda: not node.answers(NAME, "A"), 2 * TTL, "no hold") < 2 * TTL


def test_a_snapshot_brings_everything_back(tmp_path: Path) -> None:
    backup, new = tmp_path / "backup.db", tmp_path / "new"
    with running_node(tmp_path / "store") as node:
        paths = register(node, 3, 60)
        done = run_discovery("store", "snapshot", str(backup), "--node", node.url)
        assert (done.returncode, done.stderr) == (0, "")
        at = int(done.stdout.partition("revision ")[2].partition(",")[0])
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        done = run_discovery("store", "snapshot", str(backup), "--node", node.url)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        done = run_discovery("store", "compact", "--node", node.url)
        assert done.returncode == 0
        done = run_discovery("store", "check", "--path", str(tmp_path / "store"))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        seen = int(node.call("PUT", "/v1/services/late/i", {"host": "10.9.9.9"})[1]["revision"])
        assert seen > at
    for command in (
        ("check", str(backup)),
        ("restore", str(backup), "--path", str(new)),
        ("check", "--path", str(new)),
    ):
        done = run_discovery("store", *command)
        assert (done.returncode, done.stderr) == (0, "")
    with running_node(new) as node:
        assert len(node.answers(NAME, "A")) == 3
        for path in paths:
            assert node.call("POST", f"{path}/heartbeat")[0] == 200
        assert revision(node) > seen
        assert node.call("PUT", "/v1/services/new/i", {"host": "10.9.9.9"})[0] == 201


def test_a_snapshot_under_writes_is_one_moment(tmp_path: Path) -> None:
    """Pairs are written one after the other: the copy never has the second without the first."""
    with running_node(tmp_path / "store") as node:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                for side in ("first", "second"):
                    node.call("PUT", f"/v1/services/{side}/i{number}", {"host": "10.0.0.1"})
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_for(lambda: revision(node) > 20, 60, "some writes")
            done = run_discovery("store", "snapshot", str(tmp_path / "backup.db"), "--node", node.url)
        finally:
            stop.set()
            writer.join()
        assert done.returncode == 0, done.stderr
    done = run_discovery("store", "restore", str(tmp_path / "backup.db"), "--path", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    with running_node(tmp_path / "new") as node:
        counts = {one["service"]: one["instances"] for one in node.call("GET", "/v1/services")[1]["services"]}
        assert counts["first"] - counts["second"] in (0, 1)
