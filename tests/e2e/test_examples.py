"""The examples run as they are written."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.agent import declared
from tests.support.node import ROOT, RunningNode, environment, running_node, wait_for
from tests.support.programs import LONG, in_dns, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = ROOT / "deploy" / "examples"
DOCUMENT = ROOT / "deploy" / "client.md"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(tmp_path / "store") as running:
        yield running


def settings(node: RunningNode) -> dict[str, str]:
    return {"DISCOVERY_NODE": node.url, "DISCOVERY_DNS": f"127.0.0.1:{node.dns_port}"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def example(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def call(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        example("call.py"), capture_output=True, text=True, timeout=LONG, env=environment() | env
    )


@pytest.mark.parametrize(("name", "said"), [("aiohttp_app.py", "aiohttp"), ("flask_app.py", "Flask")])
def test_an_app_that_registers_itself_is_found_and_called(
    node: RunningNode, tmp_path: Path, name: str, said: str
) -> None:
    port = free_port()
    with program(example(name, str(port)), tmp_path / "log", settings(node)) as app:
        in_dns(node, "hello.prod", port)
        for env in (settings(node), {"DISCOVERY_NODE": node.url}):
            called = call(env)
            assert (called.returncode, called.stdout) == (0, f"hello from {said}\n"), called.stderr
        app.terminate()
        in_dns(node, "hello.prod")
        assert app.wait(LONG) == 0
    assert node.call("GET", "/v1/services/hello.prod")[1]["instances"] == []


def test_two_apps_share_the_calls_and_one_that_is_dead_is_passed_over(
    node: RunningNode, tmp_path: Path
) -> None:
    ports = free_port(), free_port()
    (tmp_path / "one").touch()
    with (
        program(example("aiohttp_app.py", str(ports[0])), tmp_path / "one", settings(node)) as one,
        program(example("flask_app.py", str(ports[1])), tmp_path / "two", settings(node)),
    ):
        in_dns(node, "hello.prod", *ports)
        one.kill()
        one.wait()  # its lease lives on for a while
        for _ in range(3):
            called = call(settings(node))
            assert (called.returncode, called.stdout) == (0, "hello from Flask\n"), called.stderr


def test_the_script_says_when_nobody_is_there(node: RunningNode) -> None:
    called = call(settings(node))
    assert (called.returncode, called.stderr) == (1, "no instance of hello.prod answers\n")


def test_the_watcher_tells_each_change(node: RunningNode, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with program(example("watcher.py", "hello.prod"), log, settings(node)):
        node.call("PUT", "/v1/services/hello.prod/i1", {"host": "10.0.0.1", "port": 80})
        wait_for(
            lambda: "+ i1.hello.prod.discovery.internal. 10.0.0.1:80\n" in log.read_text(), LONG, "a put"
        )
        node.call("DELETE", "/v1/services/hello.prod/i1")
        wait_for(lambda: "- i1.hello.prod.discovery.internal." in log.read_text(), LONG, "a delete")
    assert "watching hello.prod\n" in log.read_text()


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S))
def test_the_documents_programs_run(node: RunningNode, block: str) -> None:
    env = environment() | settings(node)
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=LONG, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "8080" in done.stdout
    assert node.call("GET", "/v1/services/web.prod")[1]["instances"] == []


def test_the_documents_agent_file_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    (tmp_path / "agent.yaml").write_text(block)
    assert len(declared.read(tmp_path / "agent.yaml").services) == 5


def test_each_example_is_run_here() -> None:
    text = Path(__file__).read_text()
    assert all(name in text for name in os.listdir(EXAMPLES) if name.endswith(".py"))
