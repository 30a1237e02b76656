"""The workers of a running node, from the outside."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

from tests.support.node import RunningNode

PORTS = 24
"""Questions from so many ports reach both of two workers, but for one time in 8 million."""


def workers(node: RunningNode) -> list[int]:
    """The process ids."""
    task = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children")
    return [int(each) for each in task.read_text().split()]


def metrics(node: RunningNode) -> dict[str, float]:
    text = urllib.request.urlopen(node.url + "/metrics", timeout=10).read().decode()
    return {name: float(value) for name, value in re.findall(r"^(discovery_\S+) (\S+)$", text, re.M)}


def kill(node: RunningNode, number: int) -> int:
    """Kills a worker; its process id."""
    pid = workers(node)[number]
    os.kill(pid, signal.SIGKILL)
    return pid


def is_replaced(node: RunningNode, pid: int) -> bool:
    """Whether another one answers instead; there are two."""
    return pid not in workers(node) and metrics(node)["discovery_dns_workers"] == 2
