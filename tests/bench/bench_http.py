"""How fast the HTTP API is: `python -m tests.bench.bench_http [ROW ...]`, one node over the embedded store.

Load comes from `wrk` (one thread, 64 connections) with the script beside this file, or from clients here where it must
read what comes. Rows: `register` (beside etcd's own v2 PUT), `beats`, `bulk`, `batch`, `watch`, `keep`. Node and
client share this machine's cores. With no row named all run and `RESULTS_HTTP.md` is written anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import uvloop

from discovery import __version__
from tests.support.cpu import cpu_seconds
from tests.support.etcd import etcd_cluster
from tests.support.node import RunningNode, running_node

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS_HTTP.md"
CONNECTIONS = 64
SECONDS = 8
LEASES = 100_000
LEASE_TTL = 30
AT_ONCE = 10_000  # leases one call renews
BATCH = 1_000  # instances
BATCHES = 8  # on their way at once: the store writes some while the others are read
STREAMS = 2_000
CHANGES = 1_000  # a second
KEEP_SECONDS = 120


class Rows:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def add(self, what: str, figure: str, beside: str = "", wanted: str = "") -> None:
        self.rows.append((what, figure, beside, wanted))
        print(f"{what:<62}{figure:>16}  {beside:<34}{wanted}", flush=True)


def wrk(url: str, mode: str, *words: str, connections: int = CONNECTIONS) -> float:
    """Requests a second; fails where one was not answered with 2xx."""
    command = [
        "wrk",
        "-t1",
        "--timeout",
        "20s",
        f"-c{connections}",
        f"-d{SECONDS}s",
        "-s",
        str(HERE / "bench_http.lua"),
        url,
    ]
    done = subprocess.run([*command, "--", mode, *words], capture_output=True, text=True, check=True)
    found = re.search(r"^Requests/sec:\s+([0-9.]+)", done.stdout, re.M)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk {mode}: {done.stdout}{done.stderr}")
    return float(found[1])


@contextmanager
def fresh_node() -> Iterator[RunningNode]:
    with tempfile.TemporaryDirectory() as folder, running_node(Path(folder) / "store") as node:
        yield node
        node.kill()  # requests that wrk left behind are still at work


async def granted(node: RunningNode, number: int, ttl: int = 3600) -> list[str]:
    """So many leases, all renewed while they are granted, which takes longer than a short TTL."""
    left = number
    found: list[str] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def grant() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                async with session.post(f"{node.url}/v1/leases", json={"ttl": ttl}) as answer:
                    found.append((await answer.json())["id"])

        async def renew() -> None:
            while True:
                await asyncio.sleep(ttl / 6)
                held = list(found)
                for start in range(0, len(held), AT_ONCE):
                    body = {"leases": held[start : start + AT_ONCE]}
                    async with session.post(f"{node.url}/v1/heartbeats", json=body) as answer:
                        assert not (await answer.json())["missing"]

        renewing = asyncio.create_task(renew())
        await asyncio.gather(*(grant() for _ in range(CONNECTIONS)))
        renewing.cancel()
    return found


# ---------------------------------------------------------------- rows


def register(rows: Rows) -> None:
    """In turns, so that both have the same disk and the same neighbours."""
    with ExitStack() as stack:
        node = stack.enter_context(fresh_node())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--enable-v2=true", "--log-level", "error"]
        etcd = stack.enter_context(etcd_cluster(folder, flags=flags)).endpoints[0]
        ours, peer = [], []
        for turn in range(3):
            ours.append(wrk(node.url, "register", str(turn)))
            peer.append(wrk(etcd, "etcd2", str(turn)))
        mine, its = sorted(ours)[1], sorted(peer)[1]
        rows.add(
            "durable single registrations, 64 connections",
            f"{mine:,.0f} /s",
            f"{mine / its:.2f} of etcd's",
            "0.6 of etcd's",
        )
        rows.add("etcd's own v2 PUT, 64 connections", f"{its:,.0f} /s")


def beats(rows: Rows) -> None:
    with fresh_node() as node, tempfile.TemporaryDirectory() as folder:
        leases = asyncio.run(granted(node, 1_000))
        file = Path(folder) / "leases"
        file.write_text("\n".join(leases))
        rows.add(
            "heartbeats of leases, one a request",
            f"{wrk(node.url, 'lease', str(file)):,.0f} /s",
            "",
            "12,000 /s",
        )
        for number in range(200):
            node.call("PUT", f"/v1/services/web/i{number}", {"host": "10.0.0.1", "lease_ttl": 3600})
        rows.add(
            "heartbeats of instances, one a request", f"{wrk(node.url, 'instance'):,.0f} /s", "", "12,000 /s"
        )


def bulk(rows: Rows) -> None:
    with fresh_node() as node, tempfile.TemporaryDirectory() as folder:
        leases = asyncio.run(granted(node, AT_ONCE))
        file = Path(folder) / "body"
        file.write_text(json.dumps({"leases": leases}))
        figure = wrk(node.url, "post", "/v1/heartbeats", str(file)) * AT_ONCE
        rows.add(f"POST /v1/heartbeats of {AT_ONCE:,}: leases", f"{figure:,.0f} /s", "", "300,000 /s")


def batch(rows: Rows) -> None:
    with fresh_node() as node:
        lease = node.call("POST", "/v1/leases", {"ttl": 3600})[1]["id"]
        figure = wrk(node.url, "batch", lease, str(BATCH), connections=BATCHES) * BATCH
        rows.add(
            f"POST /v1/batch of {BATCH:,} under one lease: instances", f"{figure:,.0f} /s", "", "30,000 /s"
        )


def watch(rows: Rows) -> None:
    with fresh_node() as node:
        lease = node.call("POST", "/v1/leases", {"ttl": 3600})[1]["id"]
        uvloop.run(_watch(rows, node, lease))


async def _watch(rows: Rows, node: RunningNode, lease: str) -> None:
    """As many streams a service; each change tells when it was sent."""
    services = 100
    delays: list[float] = []
    host, port = urlsplit(node.url).hostname, urlsplit(node.url).port
    synced = 0

    async def follow(number: int) -> None:
        nonlocal synced
        reader, writer = await asyncio.open_connection(host, port)
        service = f"s{number % services}.web"
        writer.write(f"GET /v1/watch?service={service} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while line := await reader.readline():
            if b'"synced"' in line:
                synced += 1
            elif (at := re.search(rb'"at":"([0-9.]+)"', line)) is not None:
                delays.append(time.monotonic() - float(at[1]))
        writer.close()

    tasks = [asyncio.create_task(follow(number)) for number in range(STREAMS)]
    while synced < STREAMS:
        await asyncio.sleep(0.1)
        failed = [task for task in tasks if task.done()]
        if failed:
            raise RuntimeError(f"a watch ended: {failed[0]}")
    begin, sent = time.monotonic(), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:
        each = 20  # changes in a batch, so that the client's own work does not count for the node's

        async def change(first: int) -> None:
            operations = [
                {
                    "put": {
                        "service": f"s{number % services}.web",
                        "instance": f"i{number // services % 10}",
                        "host": "10.0.0.1",
                        "lease": lease,
                        "meta": {"at": f"{time.monotonic():.6f}"},
                    }
                }
                for number in range(first, first + each)
            ]
            async with session.post(f"{node.url}/v1/batch", json={"operations": operations}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

        running: set[asyncio.Task[None]] = set()
        while time.monotonic() < begin + SECONDS:
            task = asyncio.create_task(change(sent))
            running.add(task)
            task.add_done_callback(running.discard)
            sent += each
            await asyncio.sleep(max(0.0, begin + sent / CHANGES - time.monotonic()))
        await asyncio.gather(*running)
        rate = sent / (time.monotonic() - begin)
    wanted = sent * STREAMS // services
    for _ in range(300):
        if len(delays) >= wanted:
            break
        await asyncio.sleep(0.1)
    for stream in tasks:
        stream.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = sorted(delays)
    p99 = found[int(len(found) * 0.99)] * 1e3
    rows.add(
        f"{STREAMS:,} watch streams of {services} services, {rate:,.0f} changes/s: p99 delay",
        f"{p99:,.0f} ms",
        f"{len(found):,} of {wanted:,} events came",
        "below 250 ms",
    )


def keep(rows: Rows) -> None:
    with fresh_node() as node:
        leases = asyncio.run(granted(node, LEASES, LEASE_TTL))
        bodies = [
            json.dumps({"leases": leases[at : at + AT_ONCE]}).encode() for at in range(0, LEASES, AT_ONCE)
        ]
        before, begin, missing = cpu_seconds(node.process.pid), time.monotonic(), 0
        turn = 0
        while time.monotonic() < begin + KEEP_SECONDS:
            for body in bodies:
                missing += len(node.call("POST", "/v1/heartbeats", body)[1]["missing"])
            turn += 1
            time.sleep(max(0.0, begin + turn * LEASE_TTL / 3 - time.monotonic()))
        cores = (cpu_seconds(node.process.pid) - before) / (time.monotonic() - begin)
        rows.add(
            f"{LEASES:,} leases of {LEASE_TTL} s kept alive in bulk, {KEEP_SECONDS} s",
            f"{cores:.3f} cores",
            f"{missing} lost",
            "below 0.1 cores",
        )


ROWS: dict[str, Callable[[Rows], None]] = {
    "register": register,
    "beats": beats,
    "bulk": bulk,
    "batch": batch,
    "watch": watch,
    "keep": keep,
}


def main() -> None:
    chosen = sys.argv[1:] or list(ROWS)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    rows = Rows()
    for name in chosen:
        ROWS[name](rows)
    if len(chosen) < len(ROWS):
        return
    kernel = platform.release().partition("-")[0]
    lines = [
        "# What `make bench-http` measured",
        "",
        "One run; node, store and clients share the machine's cores. Written by `tests/bench/bench_http.py`.",
        "",
        f"- {os.cpu_count()} cores; kernel {kernel}; load average at the end {os.getloadavg()[0]:.1f}",
        f"- Python {platform.python_version()}, discovery {__version__}, wrk with {CONNECTIONS} connections",
        "",
        "| what | figure | beside | wanted |",
        "| --- | ---: | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows.rows),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
