"""`discovery watch` beside real nodes: it goes on over a restart, with another node, and ends quietly."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import DISCOVERY, RunningNode, environment, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LONG = 120.0  # seconds that only bound a wait


class Watch:
    """The command, and the lines it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, number: int) -> list[str]:
        wait_for(lambda: len(self.lines) >= number, LONG, f"{number} lines, there are {self.lines}")
        return self.lines

    def end(self) -> tuple[int, str]:
        """Its status after ^C, and what stands on standard error."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(LONG)
        self._reading.join(LONG)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@contextmanager
def watching(urls: Sequence[str], *arguments: str) -> Iterator[Watch]:
    process = subprocess.Popen(
        [*DISCOVERY, "watch", "--node", ",".join(urls), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield Watch(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def put(node: RunningNode, instance: str, port: int = 80, lease_ttl: int = 0) -> None:
    body = {"host": "10.0.0.1", "port": port, "lease_ttl": lease_ttl}
    assert node.call("PUT", f"/v1/services/web.prod/{instance}", body)[0] in (200, 201)


def test_lines_for_people_until_interrupted(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        put(node, "i1")
        with watching([node.url], "web.prod") as watch:
            watch.wait(2)
            node.call("DELETE", "/v1/services/web.prod/i1")
            put(node, "i2", lease_ttl=1)
            lines = watch.wait(5)
            assert lines[0] == "put     i1.web.prod.discovery.internal.  10.0.0.1:80"
            assert lines[1].startswith("synced  revision ")
            assert lines[2:5] == [
                "delete  i1.web.prod.discovery.internal.  deregistered",
                "put     i2.web.prod.discovery.internal.  10.0.0.1:80",
                "delete  i2.web.prod.discovery.internal.  expired",
            ]
            assert watch.end() == (130, "\n")  # so that a prompt begins a line


def test_it_goes_on_over_a_restart(tmp_path: Path) -> None:
    with running_node(tmp_path / "store") as node:
        put(node, "i1")
        same = f"http.listen=['127.0.0.1:{node.http_port}']"
        with watching([node.url], "--json") as watch:
            watch.wait(2)
            node.process.terminate()
            node.process.wait(LONG)
            with running_node(tmp_path / "store", [same]) as again:
                put(again, "i2")
                put(again, "i3")
                told: list[dict[str, Any]] = [json.loads(line) for line in watch.wait(4)]
                assert [(each["type"], each.get("instance")) for each in told] == [
                    *(("put", "i1"), ("synced", None), ("put", "i2"), ("put", "i3"))
                ]
                assert watch.end() == (130, "\n")  # so that a prompt begins a line
