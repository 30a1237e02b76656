"""A whole node in a process of its own, on free ports, for tests from the outside."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype

ROOT = Path(__file__).parents[2]
START_LIMIT = 180.0  # seconds a node may take to be ready on a busy machine
DISCOVERY = (sys.executable, "-m", "discovery")


class RunningNode:
    """`process` is the node's own, or the program's that it was started under (`under`)."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines
        text = "\n".join(lines)
        self.dns_port = int(re.findall(r"^DNS +\S+:(\d+) ", text, re.M)[0])
        scheme, port = re.findall(r"^HTTP +(https?)://\S+:(\d+)$", text, re.M)[0]
        self.http_port = int(port)
        self.url = f"{scheme}://127.0.0.1:{self.http_port}"

    def ask(self, name: str, rtype: str, *, tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, rtype, use_edns=0)
        how = dns.query.tcp if tcp else dns.query.udp
        return how(query, "127.0.0.1", port=self.dns_port, timeout=5)

    def answers(self, name: str, rtype: str) -> list[str]:
        """The answer section's data as text, sorted."""
        return sorted(item.to_text() for rrset in self.ask(name, rtype).answer for item in rrset)

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:  # Any: JSON
        """(status, decoded JSON or None)."""
        return self.exchange(method, path, body, headers)[:2]

    def exchange(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:  # Any: JSON
        """(status, decoded JSON or None, the answer's headers)."""
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None, dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return error.code, json.loads(text) if text else None, dict(error.headers)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Asks until it holds; the seconds it took. Fails the test after `seconds`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        select.select([], [], [], 0.02)
    return time.monotonic() - begin


@contextmanager
def running_node(
    store: Path,
    settings: Sequence[str] = (),
    *,
    under: Sequence[str] = (),
    before: Sequence[str] = (),
    log: Path | None = None,
    pass_fds: Sequence[int] = (),
    program: Sequence[str] = DISCOVERY,
) -> Iterator[RunningNode]:
    """A node with its store in `store`. `settings`: as for --set; `before`: further arguments; `under`: a program
    to start it with; `pass_fds`: descriptors that it inherits; `program`: another installation's. Ended, and checked
    for tracebacks, at the end."""
    log = log or store.with_name(store.name + ".log")
    sets = ["dns.listen=['127.0.0.1:0']", "http.listen=['127.0.0.1:0']", f"store.path={store}", *settings]
    serve = [*under, *program, "serve", *before, *(word for each in sets for word in ("--set", each))]
    with log.open("a") as stderr:
        process = subprocess.Popen(
            serve,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(),
            pass_fds=pass_fds,
        )
    try:
        yield RunningNode(process, _until_ready(process, log))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert "Traceback" not in log.read_text(), log.read_text()


def _until_ready(process: subprocess.Popen[str], log: Path) -> list[str]:
    """The lines it says up to the one that begins with Ready, or Started when the store is away."""
    assert process.stdout is not None
    said = b""
    deadline = time.monotonic() + START_LIMIT
    while b"\nReady" not in said and b"\nStarted" not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not part:
            process.kill()
            process.wait()
            raise AssertionError(f"the node did not start: {said!r} {log.read_text()}")
        said += part
    return said.decode().splitlines()


def environment() -> dict[str, str]:
    """This process's environment without settings of ours, so that a developer's own do not reach the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DISCOVERY_")}


def run_discovery(*arguments: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DISCOVERY, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=environment()
    )
