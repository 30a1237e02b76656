"""The embedded engine: the contract, and what this engine promises beyond it."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from discovery.errors import ConfigError
from discovery.kv.contract import (
    Compacted,
    NoSpace,
    Put,
    Store,
    Unavailable,
    prefix_end,
)
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.expiry import EXPIRY_CHUNK
from discovery.kv.guard import Guard
from discovery.kv.snapshot import restore_snapshot
from tests.support.clock import FakeClock
from tests.support.contract_suite import Place, StoreContract, changes, take
from tests.support.embedded import opened

ALL = b"\0"


class EmbeddedPlace:
    prefix = b"/t/"

    def __init__(self, store: EmbeddedStore, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock

    @property
    def store(self) -> Store:
        return self._store

    async def elapse(self, seconds: float) -> None:
        self._clock.advance(seconds)
        await self._store.expire_due()


class TestContract(StoreContract):
    @asynccontextmanager
    async def place(self, tmp_path: Path) -> AsyncIterator[Place]:
        clock = FakeClock()
        async with opened(tmp_path / "store", clock) as store:
            yield EmbeddedPlace(store, clock)


@contextmanager
def no_file_grows_beyond(file: Path) -> Iterator[None]:
    """A disk that takes no more, for this process: writing past the size of `file` fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def log_rows(path: Path) -> list[int]:
    """The revisions in the history on disk."""
    connection = sqlite3.connect(path / "store.db")
    try:
        return [row[0] for row in connection.execute("SELECT rev FROM log ORDER BY rev, sub")]
    finally:
        connection.close()


# ---------------------------------------------------------------- the directory


async def test_directory_and_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store"
    async with opened(path) as store:
        await store.put(b"a", b"1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        modes = {name: stat.S_IMODE((path / name).stat().st_mode) for name in names(path)}
    assert modes == dict.fromkeys(("lock", "store.db", "store.db-wal", "store.db-shm"), 0o600)


async def test_snapshots_that_a_killed_node_did_not_send_are_removed_and_nothing_else(tmp_path: Path) -> None:
    left, other, file = tmp_path / "snapshot-abc", tmp_path / "snapshot-mine", tmp_path / "snapshot-2026"
    for folder, name in ((left, "snapshot"), (left, "snapshot.partial"), (other, "notes.txt")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    file.write_bytes(b"x")
    async with opened(tmp_path):
        assert names(tmp_path) >= {"snapshot-mine", "snapshot-2026"}
        assert not left.exists()
        assert names(other) == {"notes.txt"}


async def test_a_second_store_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(ConfigError, match=f"{tmp_path} is in use by another process .pid {os.getpid()}"):
            await EmbeddedStore(tmp_path).start()
    async with opened(tmp_path):
        pass


async def test_calls_before_the_start_and_after_the_close_are_refused(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    for state in ("new", "closed"):
        with pytest.raises(Unavailable):
            await store.put(b"a", b"")
        with pytest.raises(Unavailable):
            await store.range(b"a")
        with pytest.raises(Unavailable):
            await store.lease_keepalive(1)
        with pytest.raises(Unavailable):
            async with store.watch(b"a", from_revision=1):
                pass
        if state == "new":
            await store.start()
            await store.close()


# ---------------------------------------------------------------- what survives


async def test_everything_survives_a_clean_close(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        lease = await store.lease_grant(60, 77)
        await store.put(b"a", b"1")
        last = await store.put(b"b", b"2", lease=lease.id)
        before = await store.range(b"", ALL)
    assert not (tmp_path / "store.db-wal").exists()
    async with opened(tmp_path, clock) as store:
        assert await store.range(b"", ALL) == before
        assert await store.lease_keys(77) == [b"b"]
        async with store.watch(b"", ALL, from_revision=1) as batches:
            assert [batch.revision for batch in await take(batches, 2)] == [last - 1, last]
        assert await store.put(b"c", b"3") == last + 1


async def test_writes_waiting_at_the_close_are_done(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        writes = [asyncio.create_task(store.put(b"%d" % number, b"")) for number in range(200)]
        await asyncio.sleep(0)  # one turn of the loop: every task has handed its write over
        await store.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("store-")]
        await asyncio.gather(*writes)
    async with opened(tmp_path) as store:
        assert len((await store.range(b"", ALL)).kvs) == 200


async def test_a_cancelled_caller_does_not_stop_its_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        cancelled = asyncio.create_task(store.put(b"a", b"1"))
        other = asyncio.create_task(store.put(b"b", b"2"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await other
        assert [kv.key for kv in (await store.range(b"", ALL)).kvs] == [b"a", b"b"]


# ---------------------------------------------------------------- leases


async def test_a_restart_gives_every_lease_its_full_ttl(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        lease = await store.lease_grant(60)
        clock.advance(59)
        assert await store.lease_ttl(lease.id) == (60, 1)
    clock.advance(1_000)
    async with opened(tmp_path, clock) as store:
        assert await store.lease_ttl(lease.id) == (60, 60)
        clock.advance(59)
        await store.expire_due()
        assert await store.lease_ttl(lease.id) == (60, 1)


async def test_a_keepalive_writes_nothing(tmp_path: Path) -> None:
    def files() -> list[tuple[str, int, int]]:
        return [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in tmp_path.iterdir()]

    async with opened(tmp_path) as store:
        lease = await store.lease_grant(60)
        before = files()
        for _ in range(100):
            assert await store.lease_keepalive(lease.id) == 60
        assert files() == before


async def test_a_mass_expiry_goes_in_chunks_in_key_order(tmp_path: Path) -> None:
    assert EXPIRY_CHUNK <= 200
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        count = EXPIRY_CHUNK * 2 + 10
        await asyncio.gather(
            *(store.txn([], [Put(b"%04d" % (count - n), b"")], grant_ttl=10) for n in range(count))
        )
        start = (await store.status()).revision
        clock.advance(11)
        await store.expire_due()
        async with store.watch(b"", ALL, from_revision=start + 1) as batches:
            chunks = await take(batches, 3)
        assert [batch.revision for batch in chunks] == [start + 1, start + 2, start + 3]
        assert [len(batch.events) for batch in chunks] == [EXPIRY_CHUNK, EXPIRY_CHUNK, 10]
        for batch in chunks:
            keys = [key for key, _ in changes(batch)]
            assert keys == sorted(keys)
        status = await store.status()
        assert (status.leases, (await store.range(b"", ALL)).kvs) == (0, [])


async def test_other_writes_take_their_turn_in_a_mass_expiry(tmp_path: Path) -> None:
    assert EXPIRY_CHUNK <= 200
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        count = EXPIRY_CHUNK * 5
        await asyncio.gather(*(store.txn([], [Put(b"%04d" % n, b"")], grant_ttl=10) for n in range(count)))
        start = (await store.status()).revision
        clock.advance(11)
        expiry = asyncio.create_task(store.expire_due())
        async with store.watch(b"", b"a", from_revision=start + 1) as batches:
            await anext(batches)
            assert await store.put(b"between", b"") < start + 5
        await expiry


async def test_a_lease_ends_by_the_store_s_own_timer(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        lease = await store.lease_grant(1)
        last = await store.put(b"a", b"", lease=lease.id)
        async with store.watch(b"a", from_revision=last + 1) as batches:
            clock.advance(2)
            assert changes(await anext(batches)) == [(b"a", None)]


async def test_a_lease_given_up_and_granted_anew_at_once_is_alive(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await store.lease_grant(60, 5)
        await asyncio.gather(store.lease_revoke(5), store.lease_grant(30, 5))
        assert await store.lease_keepalive(5) == 30


# ---------------------------------------------------------------- compaction


async def test_compaction_deletes_history_piece_by_piece(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await asyncio.gather(*(store.put(b"x", b"") for _ in range(2_500)))
        await store.compact(2_400)
        assert log_rows(tmp_path) == list(range(2_400, 2_502))
        assert (await store.status()).compact_revision == 2_400


async def test_history_is_kept_by_age(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock, keep_seconds=300) as store:
        await store.compact_due()
        for _ in range(5):
            await store.put(b"x", b"")
        clock.advance(100)
        await store.compact_due()  # marks revision 6
        await store.put(b"x", b"")
        clock.advance(290)
        await store.compact_due()
        assert (await store.status()).compact_revision <= 1
        clock.advance(20)
        await store.compact_due()
        assert (await store.status()).compact_revision == 6
        assert log_rows(tmp_path) == [6, 7]


async def test_history_is_kept_by_count(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock, keep_revisions=5) as store:
        await asyncio.gather(*(store.put(b"x", b"") for _ in range(20)))
        clock.advance(11)
        await store.compact_due()
        assert log_rows(tmp_path) == [16, 17, 18, 19, 20, 21]


# ---------------------------------------------------------------- a full disk


async def test_a_full_store_refuses_writes_goes_on_and_recovers(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock, max_bytes=1 << 20) as store:
        lease = await store.lease_grant(10)
        last = await store.put(b"leased", b"", lease=lease.id)
        stored: list[bytes] = []
        async with store.watch(b"big/", prefix_end(b"big/"), from_revision=last + 1) as batches:

            async def fill() -> None:
                nonlocal last
                for number in range(1_000):
                    last = await store.put(b"big/%03d" % number, bytes(20_000))
                    stored.append(b"big/%03d" % number)

            with pytest.raises(NoSpace):
                await fill()
            assert (await store.status()).errors
            failed = await asyncio.gather(
                *(store.put(b"more/%d" % number, bytes(100_000)) for number in range(5)),
                return_exceptions=True,
            )
            assert all(isinstance(failure, NoSpace) for failure in failed)
            found = await store.range(b"big/", prefix_end(b"big/"), keys_only=True)
            assert ([kv.key for kv in found.kvs], found.revision) == (stored, last)
            assert len(await take(batches, len(stored))) == len(stored)
            await store.compact(last)  # gives room back
            assert await store.put(b"small", b"") == last + 1
        assert not (await store.status()).errors
        assert list((await store.range(b"more/", prefix_end(b"more/"))).kvs) == []
    async with opened(tmp_path, clock) as store:
        assert (await store.range(b"big/", prefix_end(b"big/"), keys_only=True)).kvs == found.kvs


async def test_leases_that_can_t_end_stay_due_and_are_tried_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        lease = await store.lease_grant(10)
        last = await store.put(b"a", b"", lease=lease.id)
        with no_file_grows_beyond(tmp_path / "store.db-wal"):
            clock.advance(11)
            with pytest.raises(Unavailable):
                await store.expire_due()
            assert await store.lease_keepalive(lease.id) == 0
            with pytest.raises(Unavailable):
                await store.put(b"b", b"")
            found = await store.range(b"", ALL)
            assert (found.revision, len(found.kvs)) == (last, 1)
            assert (await store.status()).errors
        async with store.watch(b"a", from_revision=last + 1) as batches:
            await store.expire_due()
            assert changes(await anext(batches)) == [(b"a", None)]
        status = await store.status()
        assert (status.leases, list(status.errors), status.revision) == (0, [], last + 1)


# ---------------------------------------------------------------- snapshots


async def test_a_snapshot_restores_on_another_directory(tmp_path: Path) -> None:
    target = tmp_path / "copy"
    clock = FakeClock()
    async with opened(tmp_path / "one", clock) as store:
        lease = await store.lease_grant(60)
        last = await store.put(b"a", b"1", lease=lease.id)
        writes = [asyncio.create_task(store.put(b"x/%d" % number, b"")) for number in range(500)]
        revision = await store.snapshot(target)
        await asyncio.gather(*writes)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(tmp_path) == {"one", "copy"}
    begin = restore_snapshot(target, tmp_path / "two")
    async with opened(tmp_path / "two", clock) as store:
        found = await store.range(b"", ALL)
        assert found.revision == begin > last + 500
        assert len(found.kvs) == 1 + revision - last
        assert await store.lease_ttl(lease.id) == (60, 60)
        for seen in (
            1,
            last,
            revision,
            last + 501,
            begin - 1,
        ):  # a watcher of the store that it was taken from
            with pytest.raises(Compacted):
                async with store.watch(b"", ALL, from_revision=seen + 1 if seen < begin - 1 else seen):
                    pass
        async with store.watch(b"", ALL, from_revision=begin + 1) as batches:
            await store.put(b"new", b"")
            assert [batch.revision for batch in await take(batches, 1)] == [begin + 1]


# ---------------------------------------------------------------- housekeeping and fresh leases


async def test_history_that_somebody_else_compacts_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock, keep_revisions=5) as store:
        await asyncio.gather(*(store.put(b"x", b"") for _ in range(20)))
        clock.advance(11)
        await asyncio.gather(store.compact(21), store.compact_due())
        assert (await store.status()).compact_revision == 21


@pytest.mark.parametrize("committed", [False, True])
async def test_a_lease_granted_anew_by_the_id_of_a_due_one_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await asyncio.sleep(0)  # the housekeeping has had its first turn
        await store.lease_grant(5, 7)
        clock.advance(6)
        again = [asyncio.create_task(call) for call in (store.lease_revoke(7), store.lease_grant(5, 7))]
        if committed:  # and the loop is told only after the expiry was asked for
            told, held = store._writes._tell, list[Callable[[], None]]()
            monkeypatch.setattr(store._writes, "_tell", held.append)
            while not held:  # nothing tells the loop meanwhile
                await store.range(b"a")
            monkeypatch.undo()
            expiry = asyncio.create_task(store.expire_due())
            await asyncio.sleep(0)
            for call in held:
                told(call)
        else:
            expiry = asyncio.create_task(store.expire_due())
        await asyncio.gather(*again)
        assert await expiry == 0
        assert await store.lease_ttl(7) == (5, 5)
        await store.put(b"a", b"", lease=7)
        clock.advance(6)
        assert await store.expire_due() == 1
        assert not (await store.range(b"a")).kvs


async def test_a_housekeeping_step_that_fails_keeps_nothing_else_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compactions, turns = list[int](), asyncio.Event()

    async def broken(store: EmbeddedStore) -> int:
        raise ZeroDivisionError("no such thing")

    async def count(store: EmbeddedStore) -> None:
        compactions.append(1)
        if len(compactions) == 2:
            turns.set()

    monkeypatch.setattr(EmbeddedStore, "expire_due", broken)
    monkeypatch.setattr(EmbeddedStore, "compact_due", count)
    async with opened(tmp_path):
        await turns.wait()
    assert caplog.text.count("Traceback") == 1
    assert (
        "leases can't end and history can't be compacted: ZeroDivisionError('no such thing')" in caplog.text
    )


async def test_a_pulse_that_fails_once_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls, again = list[int](), asyncio.Event()

    def clock() -> float:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("no such thing")
        again.set()
        return 0.0

    store = EmbeddedStore(tmp_path, clock=FakeClock(), pulse_clock=clock, guard=Guard(0.5, lambda key: b""))
    await store.start()
    store._tasks[0].cancel()  # the housekeeping looks for stalls too
    await again.wait()
    await store.close()
    assert "looking for a stall failed" in caplog.text
