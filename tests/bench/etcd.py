"""etcd beside us, for comparison: one member of Debian's etcd-server, and a client of its gRPC that only puts.

The client runs in processes of its own, so that Python's share of the work is spread over the cores as etcd's is;
its PutRequest is written by hand, which is as little work as a client can have.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.etcd import etcd_cluster


@contextmanager
def etcd_member(directory: Path) -> Iterator[str | None]:
    """Its address, or None where there is no etcd."""
    if shutil.which("etcd") is None:
        yield None
        return
    with etcd_cluster(directory, flags=["--log-level", "error"]) as cluster:
        yield cluster.endpoints[0].removeprefix("http://")


def puts_per_second(address: str, callers: int, processes: int, seconds: float, value: bytes) -> float:
    """Puts a second that `processes` clients with `callers` together have acknowledged."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.etcd",
        address,
        str(callers // processes),
        str(seconds),
        str(len(value)),
    ]
    children = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    total = 0.0
    for child in children:
        out, _ = child.communicate(timeout=seconds + 60)
        total += float(out)
    return total


def put_request(key: bytes, value: bytes) -> bytes:
    """etcdserverpb.PutRequest: key = 1, value = 2; both shorter than 128 bytes or the value up to 16 KiB."""
    return b"\n" + bytes([len(key)]) + key + b"\x12" + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


async def _client(address: str, callers: int, seconds: float, size: int, name: str) -> float:
    import grpc.aio

    value = b"v" * size
    async with grpc.aio.insecure_channel(address) as channel:
        put: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/etcdserverpb.KV/Put")
        await put(put_request(b"warm/" + name.encode(), value))
        begin = time.perf_counter()
        end = begin + seconds

        async def caller(number: int) -> int:
            count = 0
            while time.perf_counter() < end:
                await put(put_request(b"/skydns/%s/%d/%d" % (name.encode(), number, count), value))
                count += 1
            return count

        counts = await asyncio.gather(*(caller(number) for number in range(callers)))
        return sum(counts) / (time.perf_counter() - begin)


if __name__ == "__main__":
    where, how_many, how_long, how_big, own_name = sys.argv[1:]
    print(asyncio.run(_client(where, int(how_many), float(how_long), int(how_big), own_name)))
