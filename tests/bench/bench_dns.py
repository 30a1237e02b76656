"""Queries per CPU second over UDP, beside NSD with the same records, in the same run.

1,000 services of 10 instances each are registered over HTTP with a running node; NSD gets the same records as a zone
file. dnsperf (Debian) asks both the same questions from the other core: addresses of all instances, SRV and A of all
services, and names that do not exist. Counted is the CPU time of the server's process, user and system, so that a
noisy machine does not show. A last run asks at a fixed rate and tells how many questions were lost.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from tests.support.node import running_node, wait_for

SERVICES, EACH = 1000, 10
SECONDS = 8
ROUNDS = 3
RATE = 50_000
ZONE = "discovery.internal."


def instances() -> Iterator[tuple[str, str, str]]:
    for service in range(SERVICES):
        for number in range(EACH):
            yield f"web{service}.prod", f"i{number}", f"10.{service >> 8}.{service & 255}.{number}"


async def register(url: str) -> float:
    """Registers all over HTTP; the seconds it took."""
    begin = time.monotonic()
    waiting = list(instances())
    async with aiohttp.ClientSession(url) as session:

        async def worker() -> None:
            while waiting:
                service, instance, host = waiting.pop()
                body = {"host": host, "port": 8080, "lease_ttl": 3600}
                async with session.put(f"/v1/services/{service}/{instance}", json=body) as response:
                    assert response.status == 201, await response.text()

        await asyncio.gather(*(worker() for _ in range(64)))
    return time.monotonic() - begin


def zone_file() -> str:
    lines = [
        f"$ORIGIN {ZONE}",
        "$TTL 5",
        "@ SOA ns.dns hostmaster 1 3600 600 604800 2",
        "@ NS ns.dns",
        "ns.dns A 192.0.2.1",
    ]
    for service, instance, host in instances():
        lines += [
            f"{service} SRV 10 10 8080 {instance}.{service}",
            f"{service} A {host}",
            f"{instance}.{service} A {host}",
            f"{instance}.{service} SRV 10 100 8080 {instance}.{service}",
        ]
    return "\n".join(lines) + "\n"


def questions() -> str:
    lines = [f"{instance}.{service}.{ZONE} A" for service, instance, _ in instances()]
    for service in range(SERVICES):
        lines += [
            f"web{service}.prod.{ZONE} SRV",
            f"web{service}.prod.{ZONE} A",
            f"no{service}.prod.{ZONE} A",
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def nsd(directory: Path) -> Iterator[tuple[int, int]]:
    """(port, pid of the process that answers)."""
    program = shutil.which("nsd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        sys.exit("nsd is missing: apt-get install nsd (make bench does it as root)")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (directory / "zone").write_text(zone_file())
    (directory / "nsd.conf").write_text(
        f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  zonelistfile: "{directory}/zones.list"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  logfile: "{directory}/nsd.log"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: {ZONE}
  zonefile: zone
"""
    )
    process = subprocess.Popen([program, "-d", "-c", directory / "nsd.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port), 20, "NSD answers")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(b"\1\2\0\0\0\1\0\0\0\0\0\0\x09discovery\x08internal\0\0\6\0\1")
            return sock.recv(512)[3] & 15 == 0
        except OSError:
            return False


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pin(pid: int, core: int) -> None:
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def dnsperf(port: int, file: Path, seconds: int, *extra: str) -> tuple[int, int, float]:
    """(questions answered, lost, answers a second)."""
    command = [
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-p",
        str(port),
        "-d",
        str(file),
        "-l",
        str(seconds),
        "-e",
        *extra,
    ]
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(["taskset", "-c", str(core), *command], capture_output=True, text=True, check=True)
    completed, lost, rate = (
        re.findall(rf"{label}: +([\d.]+)", done.stdout)[0]
        for label in ("Queries completed", "Queries lost", "Queries per second")
    )
    return int(completed), int(lost), float(rate)


def main() -> None:
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "nsd").mkdir()
        (directory / "questions").write_text(questions())
        with running_node(directory / "store") as node, nsd(directory / "nsd") as (nsd_port, nsd_pid):
            seconds = asyncio.run(register(node.url))
            print(f"{SERVICES * EACH} instances registered over HTTP in {seconds:.1f} s")
            servers = {"discovery": (node.dns_port, node.process.pid), "nsd": (nsd_port, nsd_pid)}
            print(f"{'':12}{'answers':>10}{'lost':>7}{'/s wall':>10}{'CPU s':>8}{'/CPU s':>10}")
            best: dict[str, float] = dict.fromkeys(servers, 0.0)
            for port, pid in servers.values():
                pin(pid, core)
                dnsperf(port, directory / "questions", 2)
            for _ in range(ROUNDS):
                for server, (port, pid) in servers.items():
                    before = cpu_seconds(pid)
                    count, lost, rate = dnsperf(port, directory / "questions", SECONDS)
                    spent = cpu_seconds(pid) - before
                    best[server] = max(best[server], count / spent)
                    print(f"{server:12}{count:10}{lost:7}{rate:10.0f}{spent:8.2f}{count / spent:10.0f}")
            print(f"ratio of the best, discovery / nsd: {best['discovery'] / best['nsd']:.2f}")
            for server, (port, _) in servers.items():
                count, lost, rate = dnsperf(port, directory / "questions", SECONDS, "-Q", str(RATE))
                reached = (
                    "" if rate > 0.98 * RATE else "   NOT REACHED: the client or the machine was too slow"
                )
                print(f"{server:12}{count:10}{lost:7}{rate:10.0f}   at {RATE} a second{reached}")


if __name__ == "__main__":
    main()
