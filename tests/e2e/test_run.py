"""`discovery run`: the command is in DNS exactly while it should be, whatever ends, hangs, or steps."""

from __future__ import annotations

import os
import signal
import subprocess
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


@contextmanager
def running(
    node: RunningNode, folder: Path, script: str, *options: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`discovery run` of a shell script as web with port 8080."""
    words = ["--node", node.url, "--service", "web", "--port", "8080", "--host", "10.0.0.1", "--ttl", "1"]
    command = [*DISCOVERY, "run", *words, "--lease-ttl", str(LEASE), *options, "--", "sh", "-c", script]
    heard = ["env", "--default-signal=HUP"]  # below `nohup` it is ignored, and then sh can't trap it
    with program([*heard, *command], folder / "run.log", env) as process:
        yield process


def written(file: Path) -> str:
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"), LONG, f"{file} is written")
    return file.read_text().strip()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_leaves_dns_before_the_command_is_told(node: RunningNode, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"trap 'echo yes > {told}; exit 7' TERM; while :; do sleep 0.05; done"
    with running(node, tmp_path, script, "--ttl", "600") as process:
        in_dns(node, "web", 8080)
        process.terminate()
        in_dns(node, "web")
        assert not told.exists()  # a resolver may hold it for half a minute and more
        process.terminate()
        assert process.wait(LONG) == 7
        assert told.exists()
    assert node.call("GET", "/v1/services/web")[1]["instances"] == []


def test_the_wait_ends_with_the_records_time(node: RunningNode, tmp_path: Path) -> None:
    with running(node, tmp_path, "trap 'exit 7' TERM; while :; do sleep 0.05; done") as process:
        in_dns(node, "web", 8080)
        process.terminate()
        assert process.wait(LONG) == 7
    in_dns(node, "web")


def test_other_signals_are_passed_on(node: RunningNode, tmp_path: Path) -> None:
    told, ready = tmp_path / "told", tmp_path / "ready"
    script = f"trap 'echo hup > {told}' HUP; echo > {ready}; while :; do sleep 0.05; done"
    with running(node, tmp_path, script) as process:
        in_dns(node, "web", 8080)
        written(ready)
        process.send_signal(signal.SIGHUP)
        assert written(told) == "hup"
        assert process.poll() is None
        assert ports(node, "web") == {8080}


@pytest.mark.parametrize(("end", "status"), [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", 137)])
def test_a_command_that_ends_is_out_when_run_ends(
    node: RunningNode, tmp_path: Path, end: str, status: int
) -> None:
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; {end}"
    with running(node, tmp_path, script, "--lease-ttl", "600") as process:
        in_dns(node, "web", 8080)
        go.touch()
        assert process.wait(LONG) == status
    assert ports(node, "web") == set()


def test_killed_it_is_out_with_its_lease_and_the_command_ends(node: RunningNode, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with running(node, tmp_path, f"echo $$ > {pid}; exec sleep 1000") as process:
        in_dns(node, "web", 8080)
        command = int(written(pid))
        process.kill()
        process.wait()
        wait_for(lambda: gone(command), LONG, "the command ends")
        in_dns(node, "web")


def test_it_is_in_dns_only_while_its_check_passes(node: RunningNode, tmp_path: Path) -> None:
    well = tmp_path / "well"
    with running(node, tmp_path, "exec sleep 1000", "--check", f"test -e {well}") as process:
        assert ports(node, "web") == set()
        well.touch()
        in_dns(node, "web", 8080)
        well.unlink()
        in_dns(node, "web")
        well.touch()
        in_dns(node, "web", 8080)
        assert process.poll() is None


def test_without_a_node_it_runs_and_is_found_when_there_is_one(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as first:
        port = first.http_port
    with running(first, tmp_path, "exec sleep 1000") as process:
        wait_for(lambda: "trying again" in (tmp_path / "run.log").read_text(), LONG, "it finds no node")
        with running_node(tmp_path / "store", [f"http.listen=['127.0.0.1:{port}']"]) as node:
            in_dns(node, "web", 8080)
            beats(node)
            in_dns(node, "web", 8080)
        assert process.poll() is None


def test_a_node_that_is_killed_and_comes_back_has_it_again(tmp_path: Path) -> None:
    """It is away for three times the lease."""
    with running_node(tmp_path / "store") as node:
        port = node.http_port
        with running(node, tmp_path, "exec sleep 1000"):
            in_dns(node, "web", 8080)
            node.kill()
            time.sleep(3 * LEASE)
            again = [f"http.listen=['127.0.0.1:{port}']"]
            with running_node(tmp_path / "store", again) as restarted:
                in_dns(restarted, "web", 8080)
                beats(restarted)
                in_dns(restarted, "web", 8080)


def test_what_ends_while_the_node_is_away_is_out_when_it_is_back(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        port = node.http_port
        go = tmp_path / "go"
        with running(node, tmp_path, f"while [ ! -e {go} ]; do sleep 0.05; done; exit 5") as process:
            in_dns(node, "web", 8080)
            node.kill()
            go.touch()
            assert process.wait(LONG) == 5
        with running_node(tmp_path / "store", [f"http.listen=['127.0.0.1:{port}']"]) as restarted:
            in_dns(restarted, "web")


def test_a_node_that_stood_still_for_three_leases_has_it_again(node: RunningNode, tmp_path: Path) -> None:
    with running(node, tmp_path, "exec sleep 1000"):
        in_dns(node, "web", 8080)
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(3 * LEASE)
        node.process.send_signal(signal.SIGCONT)
        in_dns(node, "web", 8080)


def test_it_stood_still_itself_and_is_found_again(node: RunningNode, tmp_path: Path) -> None:
    with running(node, tmp_path, "exec sleep 1000") as process:
        in_dns(node, "web", 8080)
        process.send_signal(signal.SIGSTOP)
        in_dns(node, "web")
        process.send_signal(signal.SIGCONT)
        in_dns(node, "web", 8080)


def test_a_step_of_the_clock_does_nothing(tmp_path: Path) -> None:
    """A day forth and two back, of the node's clock and of the command's; time itself goes on meanwhile."""
    clock = Clock(tmp_path)
    under = ["env", *(f"{name}={value}" for name, value in clock.env.items())]
    now = tmp_path / "now"
    script = f"while :; do date +%s > {now}.new; mv {now}.new {now}; sleep 0.05; done"
    with running_node(tmp_path / "store", under=under) as node:
        with running(node, tmp_path, script, "--lease-ttl", "9", env=clock.env):
            in_dns(node, "web", 8080)
            revision = node.call("GET", "/v1/services/web")[1]["instances"][0]["revision"]
            for days in (1, -1, 0):
                clock.step(days * 86400)
                wait_for(
                    lambda days=days: abs(int(written(now)) - time.time() - days * 86400) < 3600,  # type: ignore[misc]
                    LONG,
                    "the command sees the step",
                )
                beats(node)
                assert ports(node, "web") == {8080}
            (instance,) = node.call("GET", "/v1/services/web")[1]["instances"]
            assert instance["revision"] == revision  # it was never registered anew
        in_dns(node, "web")


@contextmanager
def in_terminal(node: RunningNode, script: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`discovery run` in the foreground of a terminal of its own, and where its keys are pressed."""
    words = ["--node", node.url, "--service", "web", "--port", "8080", "--host", "10.0.0.1", "--ttl", "1"]
    words += ["--lease-ttl", str(LEASE)]
    leader, follower = os.openpty()
    try:
        process = subprocess.Popen(
            ["setsid", "--ctty", *DISCOVERY, "run", *words, "--", "sh", "-c", script],
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        try:
            yield process, leader
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(leader)
        os.close(follower)


def test_a_command_that_survives_the_terminals_interrupt_stays_registered(
    node: RunningNode, tmp_path: Path
) -> None:
    """A terminal sends ^C to both, so the command gets it once; only its end takes it out."""
    told = tmp_path / "told"
    go, ready = tmp_path / "go", tmp_path / "ready"
    script = f"trap 'echo int >> {told}' INT; echo > {ready}; while [ ! -e {go} ]; do sleep 0.05; done"
    with in_terminal(node, script) as (process, keys):
        in_dns(node, "web", 8080)
        written(ready)
        os.write(keys, b"\x03")
        assert written(told) == "int"
        beats(node)
        beats(node)
        assert ports(node, "web") == {8080}
        go.touch()
        assert process.wait(LONG) == 0
        assert told.read_text() == "int\n"
        assert ports(node, "web") == set()


def test_an_interrupt_of_a_process_reaches_the_command_in_a_terminal_too(
    node: RunningNode, tmp_path: Path
) -> None:
    told, ready = tmp_path / "told", tmp_path / "ready"
    script = f"trap 'echo int >> {told}; exit 7' INT; echo > {ready}; while :; do sleep 0.05; done"
    with in_terminal(node, script) as (process, _):
        in_dns(node, "web", 8080)
        written(ready)
        process.send_signal(signal.SIGINT)
        in_dns(node, "web")
        assert process.wait(LONG) == 7
        assert told.read_text() == "int\n"


def test_signals_reach_the_commands_of_checks(node: RunningNode, tmp_path: Path) -> None:
    """None is blocked there, as in a program that anybody starts."""
    blocked = tmp_path / "blocked"
    check = f"sh -c 'grep SigBlk /proc/self/status > {blocked}'"
    with running(node, tmp_path, "exec sleep 1000", "--check", check):
        in_dns(node, "web", 8080)
    assert int(written(blocked).split()[1], 16) == 0
