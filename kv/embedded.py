"""The embedded engine: the contract on one SQLite file, for one machine.

Owns the running store: its two threads, the watches, the leases (expiry), and the housekeeping that ends leases and
compacts history. It holds no SQL (group, rows) and knows nothing of files (sqlite_file). How: writes go to one
lane, reads to another (lane). After each commit the loop is told once: leases move, watchers get their
batches, callers their answers. What the loop knows (revision, leases) is thus what has been committed.
A lease gets its full TTL again when the store starts: no service is lost to a restart (long ones: remaining).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TypeVar

from discovery.errors import DiscoveryError, StoreError
from discovery.histogram import Histogram
from discovery.kv.compaction import History
from discovery.kv.contract import (
    STORE_BOUNDS,
    Compacted,
    Compare,
    Lease,
    Member,
    Op,
    Put,
    Range,
    RangeResult,
    Status,
    TxnResult,
    Unavailable,
    WatchBatch,
)
from discovery.kv.expiry import Leases
from discovery.kv.group import Write, WriteGroup
from discovery.kv.guard import Guard
from discovery.kv.lane import Lane
from discovery.kv.leases import TICK
from discovery.kv.marker import Marker
from discovery.kv.requests import check_key, check_lease_id, check_range, check_ttl, check_txn
from discovery.kv.rows import Reader, ReadView
from discovery.kv.snapshot import remove_left_over, write_snapshot
from discovery.kv.sqlite_file import (
    FILE_NAME,
    DirectoryLock,
    close_writer,
    connect_reader,
    connect_writer,
    translate,
)
from discovery.kv.watchers import Watches
from discovery.kv.writer import Writer

T = TypeVar("T")

log = logging.getLogger(__name__)


def awake_or_not() -> float:
    """Seconds that pass while the machine is suspended too, where the system has such a clock (Linux)."""
    return time.clock_gettime(_BOOT_CLOCK)


_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Disk:
    """What is open: the lock of the directory and the two connections to the file in it."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Raises what `Store.start` raises. Blocks."""
        self.file = directory / FILE_NAME
        self._lock = DirectoryLock(directory)
        try:
            remove_left_over(directory)
            self.writer = connect_writer(self.file, max_bytes=max_bytes)
            try:
                self.reader = connect_reader(self.file)
                self.leases: list[tuple[int, int, int | None]] = self.writer.execute(
                    "SELECT id, ttl, remaining FROM lease"
                ).fetchall()
            except sqlite3.Error as error:
                self.writer.close()
                raise translate(error, self.file) from error
        except DiscoveryError:
            self._lock.release()
            raise

    def close(self) -> None:
        self.reader.close()
        close_writer(self.writer)
        self._lock.release()


class EmbeddedStore:
    """`Store` on the file `path`/store.db. `path` is a directory, made (0700) when it does not exist.

    `clock`: a monotonic clock in seconds; `pulse_clock`: one that goes on while the machine is suspended.
    `keep_seconds`, `keep_revisions`: the history kept for watches; what is older than the one or beyond the other
    is compacted. `watch_queue`: events that may wait for one watch.
    `max_bytes`: the file's greatest size (0: as the disk allows); a write beyond it raises NoSpace.
    `guard`: against mass expiry; without one every lease ends at its time, and a stall of the process counts.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        pulse_clock: Callable[[], float] = awake_or_not,
        keep_seconds: float = 300.0,
        keep_revisions: int = 1_000_000,
        watch_queue: int = 10_000,
        max_bytes: int = 0,
        guard: Guard | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._watch_queue = watch_queue
        self._max_bytes = max_bytes
        self._history = History(keep_seconds=keep_seconds, keep_revisions=keep_revisions)
        self._leases = Leases(self._write, self._read, clock, pulse_clock, guard)
        self._told = 0  # the number of the last group that was published
        self._snapshots: set[asyncio.Future[int]] = set()
        self._trimming = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._open = False
        self._trouble = ""  # what the housekeeping met last
        self.durations = {"commit": Histogram(STORE_BOUNDS), "read": Histogram(STORE_BOUNDS)}

    # ---------------------------------------------------------------- start and close

    async def start(self) -> None:
        self._disk = await asyncio.to_thread(_Disk, self._path, self._max_bytes)
        self._writer = Writer(self._disk.writer, self._disk.file, self._publish)
        self._writes: Lane[WriteGroup] = Lane("store-writer", self._writer.run, self.durations["commit"])
        reader = Reader(self._disk.reader, self._disk.file)
        self._reads: Lane[ReadView] = Lane("store-reader", reader.run, self.durations["read"])
        self._watches = Watches(
            self._reads, self._writer.revision, self._writer.compact_revision, self._watch_queue
        )
        self._marker = Marker(self._path)
        self._leases.load(self._disk.leases, self._marker)
        self._disk.leases.clear()
        self._open = True
        self._tasks = [
            asyncio.create_task(self._keep_house(), name="store-housekeeping"),
            asyncio.create_task(self._feel_pulse(), name="store-pulse"),
        ]

    async def close(self) -> None:
        async with self._closing:
            if not self._open:
                return
            self._watches.begin_close()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await self._marker.close()
            await self._writes.close()
            await self._reads.close()
            self._watches.finish()
            if self._snapshots:
                await asyncio.wait(self._snapshots)
            await asyncio.to_thread(self._disk.close)
            self._open = False

    # ---------------------------------------------------------------- keys

    async def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, keys_only: bool = False, stale_ok: bool = False
    ) -> RangeResult:
        """`stale_ok` changes nothing here: a read never waits for another machine."""
        check_range(key, end, limit)
        found = await self._read(lambda view: view.range(key, end, limit, keys_only))
        self._watches.answered(found.revision)
        return found

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        check_key(key)
        check_lease_id(lease)
        return await self._write(lambda group: group.put(key, value, lease), (key,), (lease,))

    async def delete(self, key: bytes, end: bytes = b"") -> tuple[int, int]:
        check_range(key, end)
        return await self._write(lambda group: group.delete(key, end), () if end else (key,))

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (), *, grant_ttl: int = 0
    ) -> TxnResult:
        check_txn(when, then, otherwise, grant_ttl)
        ops = [op for op in (*then, *otherwise) if not isinstance(op, Range)]
        keys = {compare.key for compare in when} | {op.key for op in ops if isinstance(op, Put) or not op.end}
        leases = {op.lease for op in ops if isinstance(op, Put)}
        return await self._write(
            lambda group: group.txn(when, then, otherwise, grant_ttl), keys, leases, grants=grant_ttl > 0
        )

    # ---------------------------------------------------------------- watches

    def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        self._need_open()
        return self._watches.open(key, end, from_revision)

    # ---------------------------------------------------------------- leases

    async def lease_grant(self, ttl: int, lease_id: int = 0) -> Lease:
        check_ttl(ttl)
        check_lease_id(lease_id)
        return await self._write(
            lambda group: group.grant(ttl, lease_id), (), (lease_id,), grants=not lease_id
        )

    async def lease_keepalive(self, lease_id: int) -> int:
        self._need_open()
        return await self._leases.keepalive(lease_id)

    async def lease_keepalive_many(self, lease_ids: Sequence[int]) -> Sequence[int]:
        self._need_open()
        return await self._leases.keepalive_many(lease_ids)

    async def lease_revoke(self, lease_id: int) -> None:
        await self._write(lambda group: group.revoke(lease_id), (), (lease_id,))

    async def lease_ttl(self, lease_id: int) -> tuple[int, int]:
        self._need_open()
        return self._leases.remaining(lease_id)

    async def lease_keys(self, lease_id: int) -> Sequence[bytes]:
        await self.lease_ttl(lease_id)
        return await self._read(lambda view: view.lease_keys(lease_id))

    async def expire_due(self) -> int:
        """Ends every lease whose time is over by the clock; how many. The housekeeping calls it every TICK.

        When a transaction fails its leases stay due, and can't be renewed: the next call tries them again.
        """
        return await self._leases.expire_due()

    # ---------------------------------------------------------------- the store itself

    async def compact(self, revision: int) -> None:
        await self._write(lambda group: group.compact(revision))
        await self._trim()

    async def note_due(self) -> None:
        """Notes what long leases have left, when it is time to. The housekeeping calls it every TICK."""
        await self._leases.note_due()

    async def compact_due(self) -> None:
        """Compacts what need not be kept by the clock. The housekeeping calls it every TICK."""
        now = self._clock()
        if self._history.mark(now, self._watches.revision):
            target = self._history.target(now, self._watches.revision)
            if target > self._watches.compact_revision:
                with suppress(Compacted):  # somebody else did it meanwhile
                    await self._write(lambda group: group.compact(target))
            await self._trim()  # and what a compaction that failed, or a kill, left over

    async def snapshot(self, target: Path) -> int:
        self._need_open()
        running = asyncio.get_running_loop().run_in_executor(None, write_snapshot, self._disk.file, target)
        self._snapshots.add(running)
        running.add_done_callback(self._snapshots.discard)
        revision = await asyncio.shield(running)
        self._watches.answered(revision)
        return revision

    async def advance(self, revision: int) -> None:
        await self._write(lambda group: group.advance(revision))

    async def members(self) -> Sequence[Member]:
        return ()

    async def status(self) -> Status:
        page_size, pages, free = await self._read(lambda view: view.pages())
        file = self._disk.file
        wal = file.with_name(file.name + "-wal")
        return Status(
            revision=self._watches.revision,
            compact_revision=self._watches.compact_revision,
            size=sum(path.stat().st_size for path in (file, wal) if path.exists()),
            size_in_use=(pages - free) * page_size,
            leases=len(self._leases),
            version=f"sqlite {sqlite3.sqlite_version}",
            errors=[self._writer.failure] if self._writer.failure else [],
            stalls=self._leases.stalls,
            leases_held=self._leases.held,
            leases_expired=self._leases.expired,
        )

    def lease_ids(self) -> list[int]:
        """All leases there are, those without keys too."""
        self._need_open()
        return self._leases.ids()

    # ---------------------------------------------------------------- inside

    def _publish(self, group: WriteGroup) -> None:
        """What a commit changed, told on the loop before its callers are answered."""
        self._told = group.number
        self._leases.publish(group.leases)
        self._watches.publish(group.batches, group.revision, group.compact_revision)

    async def _write(
        self,
        job: Callable[[WriteGroup], T],
        keys: Collection[bytes] = (),
        leases: Collection[int] = (),
        *,
        grants: bool = False,
    ) -> T:
        """`keys`, `leases`, `grants`: what the job is going to look at, and whether it wants a new lease's id."""
        self._need_open()
        return await self._writes.do(Write(job, keys, leases, grants=grants, told=self._told))

    async def _read(self, job: Callable[[ReadView], T]) -> T:
        self._need_open()
        return await self._reads.do(job)

    def _need_open(self) -> None:
        if not self._open:
            raise Unavailable("the store is not open: start it first")

    async def _trim(self) -> None:
        async with self._trimming:
            while await self._write(lambda group: group.trim()):
                pass

    async def _feel_pulse(self) -> None:
        """Apart from the housekeeping, which waits for the disk: a slow disk is no stall."""
        while True:
            try:
                self._leases.look_for_stall()
            except Exception:
                log.exception("looking for a stall failed; it goes on: please report this")
            await asyncio.sleep(TICK)

    async def _keep_house(self) -> None:
        """Ends leases and compacts history; what fails is tried again next time, the rest goes on."""
        while True:
            trouble = ""
            for step in (self.expire_due, self.note_due, self.compact_due):
                try:
                    await step()
                except StoreError as error:
                    trouble = trouble or error.detail
                except Exception as error:
                    if not self._trouble:
                        log.exception("the store's housekeeping failed; it goes on: please report this")
                    trouble = trouble or repr(error)
            self._note(trouble)
            await asyncio.sleep(TICK)

    def _note(self, trouble: str) -> None:
        """One line in the log when it begins and one when it is over, not one every TICK."""
        if trouble and not self._trouble:
            log.error("leases can't end and history can't be compacted: %s", trouble)
        elif self._trouble and not trouble:
            log.warning("leases end again and history is compacted again")
        self._trouble = trouble
