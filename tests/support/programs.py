"""Programs of ours and of the tests in processes of their own, and a clock of the machine that a test can set."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.node import ROOT, RunningNode, environment, wait_for

LONG = 60.0  # seconds that only bound a wait, on however busy a machine


@contextmanager
def program(
    words: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Both its outputs go to the file `log`. Killed at the end if it still runs."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env={**environment(), **(env or {})},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def ports(node: RunningNode, service: str) -> set[int]:
    """The ports of the SRV records in DNS: an instance each."""
    return {int(answer.split()[2]) for answer in node.answers(f"{service}.discovery.internal.", "SRV")}


def in_dns(node: RunningNode, service: str, *wanted: int) -> None:
    """Waits until exactly these ports are."""
    wait_for(lambda: ports(node, service) == set(wanted), LONG, f"{service} with ports {wanted} in DNS")


def beats(node: RunningNode) -> None:
    """Waits until the node has taken two more heartbeats."""
    before = _heartbeats(node)
    wait_for(lambda: _heartbeats(node) >= before + 2, LONG, "two heartbeats")


def _heartbeats(node: RunningNode) -> float:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=LONG) as response:
        (found,) = re.findall(r"^discovery_heartbeats_total (\S+)$", response.read().decode(), re.M)
    return float(found)


class Clock:
    """The time of day of the programs that are started with `env`; their monotonic time stays the machine's."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.step(0)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """It is so much fast (or slow) from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)
