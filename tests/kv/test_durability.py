"""What was acknowledged survives: processes killed in the middle of writing, and disks that fill up."""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discovery.errors import StoreError
from discovery.kv.contract import NoSpace, Unavailable, prefix_end
from discovery.kv.embedded import EmbeddedStore
from tests.support.clock import FakeClock

ROUNDS = 20
CALLERS = 50
ACKNOWLEDGED = 500  # before the kill

WRITER = """
import asyncio, json, os, sys
from pathlib import Path
from discovery.kv.contract import Put
from discovery.kv.embedded import EmbeddedStore

async def main(path, turn, callers):
    store = EmbeddedStore(Path(path), keep_revisions=2_000)
    await store.start()
    async def caller(name):
        number = 0
        while True:
            key = f"{turn}/{name}/{number}".encode()
            if number % 10 == 9:
                result = await store.txn([], [Put(key, key, 0)], grant_ttl=3600)
                revision, lease = result.revision, result.lease.id
            else:
                revision, lease = await store.put(key, key), 0
            os.write(1, (json.dumps([key.decode(), revision, lease]) + "\\n").encode())
            number += 1
    async def compactor():
        while True:
            revision = await store.put(b"compactor", b"")
            await store.compact(revision)
    await asyncio.gather(compactor(), *(caller(name) for name in range(callers)))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_over_kills(tmp_path: Path, rng: random.Random) -> None:
    acknowledged: dict[str, tuple[int, int]] = {}
    path = tmp_path / "store"
    for turn in range(ROUNDS):
        with subprocess.Popen(  # noqa: ASYNC220 (nothing else runs on this loop)
            [sys.executable, "-c", WRITER, str(path), str(turn), str(CALLERS)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            for _ in range(ACKNOWLEDGED + rng.randrange(500)):
                note(child.stdout.readline(), acknowledged)
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:  # said before the kill, read after it
                note(line, acknowledged)
        assert child.returncode == -signal.SIGKILL
        store = EmbeddedStore(path)
        await store.start()
        found = await store.range(b"", b"\0")
        kvs = {kv.key.decode(): kv for kv in found.kvs}
        for key, (revision, lease) in acknowledged.items():
            assert (kvs[key].mod_revision, kvs[key].lease) == (revision, lease)
            if lease:
                assert (await store.lease_ttl(lease))[0] == 3600
        assert found.revision >= max(revision for revision, _ in acknowledged.values())
        await store.close()
    assert len(acknowledged) >= ROUNDS * ACKNOWLEDGED


# Says every key that was acknowledged, on a pipe, which the trace shows as a write(1, ...).
TRACED = """
import asyncio, os, sys
from pathlib import Path
from discovery.kv.embedded import EmbeddedStore

async def main(path):
    store = EmbeddedStore(Path(path))
    await store.start()
    async def caller(name):
        for number in range(40):
            key = f"key-{name}-{number:03d}."
            await store.put(key.encode(), bytes(50))
            os.write(1, f"acknowledged {key}\\n".encode())
    await asyncio.gather(*(caller(name) for name in range(8)))
    os._exit(0)

asyncio.run(main(sys.argv[1]))
"""

CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\((\d*)| resumed)")


@pytest.mark.slow
def test_every_acknowledgement_comes_after_its_fdatasync(tmp_path: Path) -> None:
    """The page cache survives kill -9, so this looks at the system calls: first the log's pages with the key, then a
    whole fdatasync of the log, then the acknowledgement."""
    assert shutil.which("strace"), "strace is missing: apt-get install strace (make test does it as root)"
    trace = tmp_path / "trace"
    calls = "trace=openat,write,pwrite64,fdatasync,fsync"
    command = ["strace", "-f", "-s", "9000", "-e", calls, "-o", str(trace)]
    command += [sys.executable, "-c", TRACED, str(tmp_path / "store")]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    wal = -1
    written: dict[str, int] = {}  # key -> when its pages went to the log first
    syncing = -1  # when the sync that runs now began
    synced = -1  # everything written before this is on disk
    acknowledged = 0
    for when, line in enumerate(trace.read_text(errors="replace").splitlines()):
        found = CALL.match(line)
        if found is None:
            continue
        name, descriptor = found[2], found[3]
        if name == "openat" and "store.db-wal" in line and wal < 0:  # the writer's is the first
            wal = int(line.rpartition("= ")[2])
        elif name == "pwrite64" and descriptor == str(wal):
            for key in re.findall(r"key-\d-\d{3}\.", line):
                written.setdefault(key, when)
        elif name == "fdatasync":
            if descriptor == str(wal):
                syncing = when
            if line.endswith("= 0") and syncing >= 0:  # whole, or the end of one that was cut in two
                syncing, synced = -1, max(synced, syncing)
        elif name == "write" and descriptor == "1" and "acknowledged" in line:
            key = line.partition("acknowledged ")[2].partition("\\n")[0]
            assert written[key] < synced, f"{key} was acknowledged before it was on disk"
            acknowledged += 1
    assert acknowledged == 8 * 40


def note(line: bytes, acknowledged: dict[str, tuple[int, int]]) -> None:
    if line.endswith(b"\n"):
        key, revision, lease = json.loads(line)
        acknowledged[key] = (revision, lease)


class SmallDisk:
    """A directory on a disk that fills up. `relieve` gives it room again. `error` is what a write raises then."""

    def __init__(self, path: Path, error: type[StoreError], relieve: Callable[[], object]) -> None:
        self.path, self.error, self.relieve = path, error, relieve


@contextmanager
def small_disk(tmp_path: Path, kind: str) -> Iterator[SmallDisk]:
    """A tmpfs; a limit on the size of this process's files when that is wanted, or no tmpfs can be mounted."""
    at = tmp_path / "disk"
    at.mkdir()
    mounted = kind == "tmpfs" and not mount("mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", str(at))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if mounted:
            filler = at / "filler"
            filler.write_bytes(bytes(6 << 20))
            yield SmallDisk(at / "store", NoSpace, filler.unlink)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
            yield SmallDisk(
                at / "store", Unavailable, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            assert not mount("umount", str(at))


def mount(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
async def test_a_full_disk_refuses_writes_and_all_goes_on_when_there_is_room(
    tmp_path: Path, kind: str
) -> None:
    clock = FakeClock()
    with small_disk(tmp_path, kind) as disk:
        store = EmbeddedStore(disk.path, clock=clock)
        await store.start()
        lease = await store.lease_grant(10)
        await store.put(b"leased", b"", lease=lease.id)
        stored: dict[bytes, int] = {}

        async def fill(caller: int) -> None:
            for number in range(10_000):
                key = b"big/%d/%d" % (caller, number)
                stored[key] = await store.put(key, bytes(3_000))

        failures = await asyncio.gather(*(fill(caller) for caller in range(10)), return_exceptions=True)
        assert {type(failure) for failure in failures} == {disk.error}
        assert (await store.status()).errors

        async def held() -> dict[bytes, int]:
            found = await store.range(b"big/", prefix_end(b"big/"), keys_only=True)
            return {kv.key: kv.mod_revision for kv in found.kvs}

        assert await held() == stored
        clock.advance(11)

        async def fill_the_rest() -> None:
            for _ in range(1_000):
                await store.put(b"small", b"")

        with pytest.raises(disk.error):
            await fill_the_rest()
        with pytest.raises(disk.error):
            await store.expire_due()
        assert await store.lease_keepalive(lease.id) == 0

        disk.relieve()
        after = await store.put(b"after", b"")
        async with store.watch(b"leased", from_revision=after + 1) as batches:
            await store.expire_due()
            assert (await anext(batches)).events[0].deleted
        assert not (await store.status()).errors
        await store.close()
        store = EmbeddedStore(disk.path, clock=clock)
        await store.start()
        assert await held() == stored
        await store.close()
