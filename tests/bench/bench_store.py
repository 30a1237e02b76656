"""How fast the embedded store is on this machine's disk: `python -m tests.bench.bench_store [DIRECTORY]`.

Prints one row a figure, and beside it the target where there is one; etcd's puts are measured in the same run. It is
bounded in time (about 90 s). Figures depend on the disk: the first row is the disk's own fdatasync.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from discovery.event_loop import SWITCH_INTERVAL
from discovery.kv.contract import KV, Compare, Put, Target, prefix_end
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.guard import Guard
from discovery.kv.leases import LeaseWheel
from discovery.kv.sqlite_file import close_writer, connect_writer
from discovery.node import service_of
from tests.bench.etcd import etcd_member, puts_per_second

SECONDS = 2.0  # a row
LEASES = 1_000_000
EXPIRING = 10_000
WATCHERS = 10_000
VALUE = b"v" * 200
PAGE = 50_000


def row(what: str, figure: float, unit: str, target: str = "") -> None:
    print(f"{what:<58}{figure:>12,.1f}  {unit:<4}{target:>18}", flush=True)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def p99(seconds: list[float]) -> float:
    """In milliseconds."""
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1e3


def fdatasync(directory: Path) -> float:
    """Microseconds one small append and its fdatasync take."""
    with (directory / "probe").open("wb", buffering=0) as file:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + 0.5:
            file.write(VALUE)
            os.fdatasync(file.fileno())
            count += 1
        return (time.perf_counter() - begin) / count * 1e6


async def rate(
    callers: int, call: Callable[[int], Awaitable[object]], times: list[float] | None = None
) -> float:
    """Calls a second with so many callers, each waiting for its answer before its next call."""
    end = time.perf_counter() + SECONDS

    async def caller(number: int) -> int:
        count = 0
        while (begin := time.perf_counter()) < end:
            await call(number * 1_000_000 + count)
            count += 1
            if times is not None:
                times.append(time.perf_counter() - begin)
        return count

    begin = time.perf_counter()
    counts = await asyncio.gather(*(caller(number) for number in range(callers)))
    return sum(counts) / (time.perf_counter() - begin)


# ---------------------------------------------------------------- calls


async def call_rows(directory: Path) -> float:
    """Returns the puts a second at 64 callers."""
    store = EmbeddedStore(directory / "store")
    await store.start()
    found = 0.0

    async def put(number: int) -> None:
        await store.put(b"/skydns/%d" % (number % 100_000_007), VALUE)

    async def register(number: int) -> None:
        key = b"/r/%d" % number
        await store.txn([Compare(key, Target.VERSION, "=", 0)], [Put(key, VALUE)], grant_ttl=3600)

    async def put_64(number: int) -> None:
        await store.txn([], [Put(b"/t/%d/%d" % (number, n), VALUE) for n in range(64)])

    async def read(number: int) -> None:
        await store.range(b"/skydns/%d" % (number % 1000))

    for callers in (1, 64, 256):
        figure = await rate(callers, put)
        row(f"durable puts, {callers} callers", figure, "/s")
        found = figure if callers == 64 else found
    row("transactions with a lease, 64 callers", await rate(64, register), "/s")
    row("transactions of 64 puts, 16 callers: puts", await rate(16, put_64) * 64, "/s")
    for callers in (1, 64):
        row(f"point reads, {callers} callers", await rate(callers, read), "/s")
    await store.close()
    return found


async def busy_rows(directory: Path) -> None:
    """Writers beside an event loop that always has something to do, as DNS at full load."""
    store = EmbeddedStore(directory / "busy")
    await store.start()
    loop, on = asyncio.get_running_loop(), True

    def work() -> None:
        end = time.perf_counter() + 0.0003
        while time.perf_counter() < end:
            pass
        if on:
            loop.call_soon(work)

    async def put(number: int) -> None:
        await store.put(b"/skydns/%d" % number, VALUE)

    usual = sys.getswitchinterval()
    work()
    for interval in (usual, SWITCH_INTERVAL):
        sys.setswitchinterval(interval)
        times: list[float] = []
        figure = await rate(16, put, times)
        name = f"busy loop, 16 callers, switch interval {interval * 1e3:g} ms"
        row(f"{name}: puts", figure, "/s")
        row(f"{name}: p99", p99(times), "ms")
    on = False
    await asyncio.sleep(0.01)
    await store.close()


async def watch_rows(directory: Path) -> None:
    store = EmbeddedStore(directory / "watch")
    await store.start()
    contexts = [store.watch(b"/w/", prefix_end(b"/w/"), from_revision=2) for _ in range(WATCHERS)]
    streams = [await context.__aenter__() for context in contexts]
    begin = time.perf_counter()
    count = 20
    for number in range(count):
        await store.put(b"/w/%d" % number, VALUE)
    for stream in streams:
        for _ in range(count):
            await anext(stream)
    row(
        f"{WATCHERS:,} watchers of one prefix: events", WATCHERS * count / (time.perf_counter() - begin), "/s"
    )
    row(
        f"{WATCHERS:,} watchers elsewhere, 64 callers: puts",
        await rate(64, lambda n: store.put(b"/x/%d" % n, VALUE)),
        "/s",
    )
    for context in contexts:
        await context.__aexit__(None, None, None)
    await store.close()


# ---------------------------------------------------------------- leases


async def expiry_rows(directory: Path) -> None:
    """Services of 10 instances each; every second instance falls silent, so that the guard looks and lets them go."""
    now = 0.0
    store = EmbeddedStore(directory / "expiry", clock=lambda: now, guard=Guard(0.5, service_of))
    await store.start()

    async def register(number: int) -> None:
        key = b"/skydns/s%d/i%d" % (number // 10, number % 10)
        await store.txn([], [Put(key, VALUE)], grant_ttl=10 if number % 2 else 1_000)

    for first in range(0, 2 * EXPIRING, 500):
        await asyncio.gather(*(register(number) for number in range(first, first + 500)))
    times: list[float] = []
    done = False

    async def writer() -> None:
        number = 0
        while not done:
            begin = time.perf_counter()
            await store.put(b"/other/%d" % number, VALUE)
            times.append(time.perf_counter() - begin)
            number += 1

    for _ in range(20):
        now += 0.5
        store._leases.look_for_stall()  # the ticks of a process that runs
    now += 0.5
    task = asyncio.create_task(writer())
    begin = time.perf_counter()
    ended = 0
    while ended < EXPIRING:
        ended += await store.expire_due()
    row(f"{EXPIRING:,} leases end at once", (time.perf_counter() - begin) * 1e3, "ms")
    done = True
    await task
    row("... a writer beside them: p99", p99(times), "ms")
    row("... a writer beside them: longest wait", max(times) * 1e3, "ms", "below 100 ms")
    await store.close()


def wheel_rows() -> None:
    chance = random.Random(1)
    ids = [chance.getrandbits(63) for _ in range(LEASES)]
    gc.collect()
    before = rss_mb()
    wheel = LeaseWheel()
    begin = time.perf_counter()
    for place, lease_id in enumerate(ids):
        wheel.grant(lease_id, 30, place / LEASES * 10)
    row("1M leases: a grant", (time.perf_counter() - begin) / LEASES * 1e6, "µs")
    row("1M leases: memory, with their ids", rss_mb() - before + LEASES * 44 / 1e6, "MB", "below 250 MB")
    for what in ("a keep-alive", "a keep-alive, in random order"):
        begin = time.perf_counter()
        for place, lease_id in enumerate(ids):
            wheel.keepalive(lease_id, 10 + place / LEASES * 10)
        took = (time.perf_counter() - begin) / LEASES
        row(f"1M leases: {what}", took * 1e6, "µs", "below 2 µs")
        chance.shuffle(ids)
    # ten seconds of 100k keep-alives a second: what the loop has left for all else
    begin, now = time.perf_counter(), 20.0
    for tick in range(20):
        now += 0.5
        for lease_id in ids[tick * 50_000 : (tick + 1) * 50_000]:
            wheel.keepalive(lease_id, now)
        while wheel.advance(now):
            pass
    row("1M leases: 100k keep-alives/s and ticks, of one core", (time.perf_counter() - begin) * 10, "%")
    pieces: list[float] = []
    more = True
    while more:
        begin = time.perf_counter()
        more = wheel.advance(200.0)
        pieces.append(time.perf_counter() - begin)
        for lease_id in wheel.due(LEASES):
            wheel.revoke(lease_id)
    row("1M leases end at once: the worst piece", max(pieces) * 1e3, "ms")


# ---------------------------------------------------------------- opening and loading


def fill(directory: Path, keys: int) -> None:
    directory.mkdir()
    connection = connect_writer(directory / "store.db")
    connection.execute("BEGIN")
    rows = ((b"/skydns/internal/discovery/s%06d/i%d" % (n // 10, n % 10), n + 1, VALUE) for n in range(keys))
    connection.executemany("INSERT INTO kv VALUES (?1, ?2, ?2, 1, ?2, ?3)", rows)
    connection.executemany("INSERT INTO lease (id, ttl) VALUES (?, 30)", ((n + 1,) for n in range(keys)))
    connection.execute("UPDATE meta SET v = ? WHERE k IN ('revision', 'compact')", (keys + 1,))
    connection.execute("COMMIT")
    close_writer(connection)


async def load(directory: Path) -> None:
    """Runs in a process of its own: its memory is the store's."""
    before = rss_mb()
    begin = time.perf_counter()
    store = EmbeddedStore(directory)
    await store.start()
    opened = time.perf_counter()
    kvs, start, more = list[KV](), b"", True
    while more:
        page = await store.range(start, b"\0", limit=PAGE)
        kvs += page.kvs
        start, more = kvs[-1].key + b"\0", page.more
    loaded = time.perf_counter()
    print(opened - begin, loaded - opened, rss_mb() - before, len(kvs))
    await store.close()


def load_rows(directory: Path) -> None:
    for keys, target in ((100_000, "below 500 ms"), (1_000_000, "")):
        place = directory / f"load{keys}"
        fill(place, keys)
        command = [sys.executable, "-m", "tests.bench.bench_store", "--load", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        opening, loading, memory, count = map(float, done.stdout.split())
        assert count == keys
        row(f"{keys:,} keys and leases: open", opening * 1e3, "ms")
        row(f"{keys:,} keys: full load", loading * 1e3, "ms", target)
        row(f"{keys:,} keys and leases: memory, all rows held", memory, "MB")


def etcd_row(directory: Path, ours: float) -> None:
    with etcd_member(directory / "etcd") as address:
        if address is None:
            print("etcd is not installed (Debian: etcd-server): not compared")
            return
        figures = [puts_per_second(address, 64, processes, SECONDS, VALUE) for processes in (1, 2)]
    for processes, figure in zip((1, 2), figures, strict=True):
        row(f"etcd: durable puts over gRPC, 64 callers, {processes} clients", figure, "/s")
    row("ours to etcd's better, 64 callers", ours / max(figures), "", "at least 1.5")


def main() -> None:
    place = sys.argv[1] if len(sys.argv) > 1 else None
    if place == "--load":
        uvloop.run(load(Path(sys.argv[2])))
        return
    with tempfile.TemporaryDirectory(dir=place) as name:
        directory = Path(name)
        row("this disk: an append and its fdatasync", fdatasync(directory), "µs")
        ours = uvloop.run(call_rows(directory))
        etcd_row(directory, ours)
        uvloop.run(busy_rows(directory))
        uvloop.run(watch_rows(directory))
        uvloop.run(expiry_rows(directory))
        load_rows(directory)
    wheel_rows()


if __name__ == "__main__":
    main()
