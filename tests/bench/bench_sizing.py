"""What a machine needs for so many instances: memory, CPU, disk, and time to be ready.

    python -m tests.bench.bench_sizing [1000 10000 100000]

One node with the embedded store, as it comes. Every instance has a lease of its own of TTL seconds and beats every
third of it, first each by a call of its own, then 100 leases a call as the agents of hosts do; then those go on with
1,000 questions a second beside them. CPU is the node's own, user and system, over a window in which every instance
beats once; 100 % is one core. The client is in this process. About three minutes; without
sizes the figures go to RESULTS_SIZING.md and into deploy/operations.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.bench.sender import Sender, write_questions
from tests.support.cpu import cpu_seconds
from tests.support.node import ROOT, RunningNode, running_node

TTL = 30  # seconds
EVERY = TTL / 3  # seconds between two beats of an instance
EACH = 10  # instances of a service
AT_ONCE = 100  # leases a call, as of an agent with that many services
QUESTIONS = 1000  # a second
CONNECTIONS = 32
TICK = 0.02  # seconds
BATCH = 1000
MOST = 10_000  # leases a call
SIZES = (1_000, 10_000, 100_000)
RESULTS = Path(__file__).with_name("RESULTS_SIZING.md")
GUIDE = ROOT / "deploy" / "operations.md"
MARK, END = "<!-- make bench-sizing -->", "<!-- end -->"  # between these it writes the guide's figures
HEAD = "# What `make bench-sizing` measured\n\nWritten by `tests/bench/bench_sizing.py` in one run.\n"


class Window(NamedTuple):
    """`cpu`: cores; `rate`: calls a second that were answered."""

    cpu: float
    rate: float


class Row(NamedTuple):
    instances: int
    memory: int
    disk: int
    ready: float
    alone: Window
    together: Window
    asked: Window
    p99_us: float
    lost: int
    expired: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int)
    given = parser.parse_args()
    rows = []
    for size in given.sizes or SIZES:
        print(f"{size} instances ...", file=sys.stderr)
        rows.append(measured(size))
    table = "\n".join(figures(rows))
    text = f"{HEAD}\n{table}\n"
    print(text)
    if not given.sizes:
        RESULTS.write_text(text)
        guide = GUIDE.read_text()
        before, mark, rest = guide.partition(MARK)
        GUIDE.write_text(f"{before}{mark}\n{table}\n{END}{rest.partition(END)[2]}")


def measured(size: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        with running_node(store) as node:
            leases = registered(node, size)
            one_each = [beat(node, name) for name in names(size)]
            many = [beats(node, leases[start : start + AT_ONCE]) for start in range(0, size, AT_ONCE)]
            together = window(node, lambda: paced(node, many, len(many) / EVERY, EVERY))
            alone = window(node, lambda: paced(node, one_each, size / EVERY, EVERY))
            renew(node, leases)  # those that the window above may have left
            questions = write_questions(
                Path(folder) / "questions",
                [(f"{name[1]}.{name[0]}.discovery.internal", "A") for name in names(size)],
            )
            sender = Sender(Path(folder), None)
            heard: list[tuple[float, int]] = []

            def ask_and_beat() -> int:
                asking = threading.Thread(
                    target=lambda: heard.append(
                        (lambda told: (told.p99_us, told.lost))(
                            sender.run("paced", node.dns_port, questions, EVERY, QUESTIONS)
                        )
                    )
                )
                asking.start()
                answered = paced(node, many, len(many) / EVERY, EVERY)
                asking.join()
                return answered

            asked = window(node, ask_and_beat)
            memory = resident(node)
            expired = size - counted(node)
            renew(node, leases)
        disk = sum(file.stat().st_size for file in store.iterdir())
        begin = time.monotonic()
        with running_node(store):
            ready = time.monotonic() - begin
    ((p99_us, lost),) = heard
    return Row(size, memory, disk, ready, alone, together, asked, p99_us, lost, expired)


# ---------------------------------------------------------------- load


def names(size: int) -> list[tuple[str, str]]:
    return [(f"s{number // EACH}.prod", f"i{number % EACH}") for number in range(size)]


def registered(node: RunningNode, size: int) -> list[str]:
    """The leases, all alive: those that are there already are renewed meanwhile."""
    leases: list[str] = []
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(EVERY / 2):
            renew(node, list(leases))

    renewing = threading.Thread(target=go_on)
    renewing.start()
    wanted = names(size)
    try:
        for start in range(0, size, BATCH):
            operations = [
                {
                    "put": {
                        "service": service,
                        "instance": instance,
                        "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
                        "port": 8080,
                        "lease_ttl": TTL,
                    }
                }
                for number, (service, instance) in enumerate(wanted[start : start + BATCH], start)
            ]
            leases += [
                each["lease"] for each in post(node, "/v1/batch", {"operations": operations})["results"]
            ]
    finally:
        done.set()
        renewing.join()
    return leases


def renew(node: RunningNode, leases: Sequence[str]) -> None:
    """All, as fast as it goes."""
    for start in range(0, len(leases), MOST):
        post(node, "/v1/heartbeats", {"leases": leases[start : start + MOST]})


def post(node: RunningNode, path: str, body: object) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(node.url + path, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, list[dict[str, str]]] = json.loads(answer.read())
        return found


def beat(node: RunningNode, name: tuple[str, str]) -> bytes:
    path = f"/v1/services/{name[0]}/{name[1]}/heartbeat"
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode()


def beats(node: RunningNode, leases: Sequence[str]) -> bytes:
    body = json.dumps({"leases": leases}).encode()
    head = f"POST /v1/heartbeats HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def paced(node: RunningNode, requests: Sequence[bytes], rate: float, seconds: float) -> int:
    """Sends them in turn, `rate` a second while the node keeps up; how many were answered."""
    sockets = [socket.create_connection(("127.0.0.1", node.http_port), 60) for _ in range(CONNECTIONS)]
    begin = time.monotonic()
    sent = 0
    try:
        while (now := time.monotonic() - begin) < seconds:
            due = min(int(now * rate) + 1 - sent, CONNECTIONS * 8)
            shares: list[list[bytes]] = [[] for _ in sockets]
            for number in range(due):
                shares[number % CONNECTIONS].append(requests[(sent + number) % len(requests)])
            for sock, share in zip(sockets, shares, strict=True):
                if share:
                    sock.sendall(b"".join(share))
            for sock, share in zip(sockets, shares, strict=True):
                read(sock, len(share))
            sent += due
            time.sleep(max(0.0, TICK - (time.monotonic() - begin - now)))
    finally:
        for sock in sockets:
            sock.close()
    return sent


def read(sock: socket.socket, answers: int) -> None:
    got = b""
    while got.count(b"HTTP/1.1 200 ") < answers or not got.rstrip().endswith(b"}" if answers else b""):
        part = sock.recv(1 << 16)
        if not part or b"HTTP/1.1 4" in got or b"HTTP/1.1 5" in got:
            raise RuntimeError(f"the node did not take a heartbeat: {got[-500:]!r}")
        got += part


# ---------------------------------------------------------------- figures


def window(node: RunningNode, load: Callable[[], int]) -> Window:
    cpu, begin = cpu_seconds(node.process.pid), time.monotonic()
    answered = load()
    seconds = time.monotonic() - begin
    return Window((cpu_seconds(node.process.pid) - cpu) / seconds, answered / seconds)


def resident(node: RunningNode) -> int:
    return int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def counted(node: RunningNode) -> int:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("discovery_instances ")]
    return int(float(value))


def figures(rows: Sequence[Row]) -> list[str]:
    """The lines that both pages have."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    series = ".".join(platform.release().split(".")[:2])
    lines = [
        "One node with the embedded store; every instance has a lease of 30 s of its own and beats every 10 s; CPU in",
        f"percent of one core, the node's alone. {cpu}, {os.cpu_count()} cores; Linux {series}; load",
        f"at end {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, discovery {version('discovery-dns')}.",
        "",
        "| | " + " | ".join(f"{row.instances:,} instances" for row in rows) + " |",
        "| --- |" + " ---: |" * len(rows),
    ]
    cells: list[tuple[str, Callable[[Row], str]]] = [
        ("memory (resident)", lambda row: f"{row.memory / 2**20:.0f} MiB"),
        ("disk (`store.path`)", lambda row: f"{row.disk / 1e6:.1f} MB"),
        ("start to ready", lambda row: f"{row.ready:.1f} s"),
        ("CPU, each beats by itself", lambda row: f"{row.alone.cpu:.0%} at {row.alone.rate:,.0f} beats/s"),
        (
            f"CPU, {AT_ONCE} leases a call",
            lambda row: (
                f"{row.together.cpu:.1%} at {row.together.rate * min(AT_ONCE, row.instances):,.0f} beats/s"
            ),
        ),
        (f"CPU, that and {QUESTIONS:,} questions/s", lambda row: f"{row.asked.cpu:.1%}"),
        ("99 of 100 answers then within", lambda row: f"{row.p99_us / 1000:.1f} ms, {row.lost} lost"),
        ("instances that expired meanwhile", lambda row: str(row.expired)),
    ]
    lines += [f"| {what} | " + " | ".join(cell(row) for row in rows) + " |" for what, cell in cells]
    wanted = ", ".join(f"{row.instances / EVERY:,.0f}" for row in rows)
    lines += [
        "",
        f"{wanted} beats/s were offered; where fewer were answered, node and client together had no more of the CPU.",
    ]
    return lines


if __name__ == "__main__":
    main()
