"""How fast the embedded store is on this machine's disk: `python -m tests.bench.bench_store [DIRECTORY]`.

Prints one row a figure: durable puts at 1, 64 and 256 callers, transactions with a lease, point reads, and the
lease wheel at a million leases. It is bounded in time (about 20 s). Figures depend on the disk: the first row is
the disk's own fdatasync.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from discovery.kv.contract import Compare, Put, Target
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.leases import LeaseWheel

SECONDS = 2.0  # a row
LEASES = 1_000_000
VALUE = b"v" * 200


def row(what: str, figure: float, unit: str) -> None:
    print(f"{what:<46}{figure:>14,.1f}  {unit}", flush=True)


def fdatasync(directory: Path) -> float:
    """Microseconds one small append and its fdatasync take."""
    with (directory / "probe").open("wb", buffering=0) as file:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + 0.5:
            file.write(VALUE)
            os.fdatasync(file.fileno())
            count += 1
        return (time.perf_counter() - begin) / count * 1e6


async def rate(callers: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Calls a second with so many callers, each waiting for its answer before its next call."""
    end = time.perf_counter() + SECONDS

    async def caller(number: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await call(number * 1_000_000 + count)
            count += 1
        return count

    begin = time.perf_counter()
    counts = await asyncio.gather(*(caller(number) for number in range(callers)))
    return sum(counts) / (time.perf_counter() - begin)


async def store_rows(directory: Path) -> None:
    store = EmbeddedStore(directory / "store")
    await store.start()

    async def put(number: int) -> None:
        await store.put(b"/skydns/%d" % (number % 100_000_007), VALUE)

    async def register(number: int) -> None:
        key = b"/r/%d" % number
        await store.txn([Compare(key, Target.VERSION, "=", 0)], [Put(key, VALUE)], grant_ttl=3600)

    async def read(number: int) -> None:
        await store.range(b"/skydns/%d" % (number % 1000))

    for callers in (1, 64, 256):
        row(f"durable puts, {callers} callers", await rate(callers, put), "/s")
    row("transactions with a lease, 64 callers", await rate(64, register), "/s")
    for callers in (1, 64):
        row(f"point reads, {callers} callers", await rate(callers, read), "/s")
    await store.close()


def wheel_rows() -> None:
    chance = random.Random(1)
    wheel = LeaseWheel()
    ids = [chance.getrandbits(63) for _ in range(LEASES)]
    begin = time.perf_counter()
    for place, lease_id in enumerate(ids):
        wheel.grant(lease_id, 30, place / LEASES * 10)
    row("1M leases: a grant", (time.perf_counter() - begin) / LEASES * 1e6, "µs")
    begin = time.perf_counter()
    for place, lease_id in enumerate(ids):
        wheel.keepalive(lease_id, 10 + place / LEASES * 10)
    row("1M leases: a keep-alive", (time.perf_counter() - begin) / LEASES * 1e6, "µs")
    chance.shuffle(ids)
    begin = time.perf_counter()
    for place, lease_id in enumerate(ids):
        wheel.keepalive(lease_id, 20 + place / LEASES * 10)
    row("1M leases: a keep-alive, in random order", (time.perf_counter() - begin) / LEASES * 1e6, "µs")
    pieces: list[float] = []
    ticks: list[float] = []
    for tick in range(60, 130):
        whole, more = 0.0, True
        while more:
            begin = time.perf_counter()
            more = wheel.advance(tick / 2)
            pieces.append(time.perf_counter() - begin)
            whole += pieces[-1]
            while chunk := wheel.due(200):
                for lease_id in chunk:
                    wheel.revoke(lease_id)
        ticks.append(whole)
    row("1M leases: the worst tick, in pieces", max(ticks) * 1e3, "ms")
    row("1M leases: the worst piece of a tick", max(pieces) * 1e3, "ms")


def main() -> None:
    place = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=place) as name:
        row("this disk: an append and its fdatasync", fdatasync(Path(name)), "µs")
        uvloop.run(store_rows(Path(name)))
    wheel_rows()


if __name__ == "__main__":
    main()
