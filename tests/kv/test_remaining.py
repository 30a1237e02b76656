"""Long leases over restarts: a crash loop keeps nothing for ever, and ends nothing early."""

from __future__ import annotations

import math
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.kv.contract import NoSpace, Unavailable
from discovery.kv.embedded import EmbeddedStore
from discovery.kv.guard import Guard
from discovery.kv.remaining import EVERY, LONG, LongLeases
from tests.support.clock import FakeClock


class Crashing:
    """A store that is killed again and again: what a kill leaves is copied and opened as another store."""

    def __init__(self, path: Path, guard: Guard | None = None) -> None:
        self.clock, self.guard = FakeClock(), guard
        self.path, self.lives = path, 0

    async def start(self) -> None:
        self.store = EmbeddedStore(
            self.path / str(self.lives), clock=self.clock, pulse_clock=self.clock, guard=self.guard
        )
        await self.store.start()

    async def crash(self) -> None:
        old = self.path / str(self.lives)
        self.lives += 1
        shutil.copytree(old, self.path / str(self.lives))
        await self.store.close()
        await self.start()

    async def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.store.expire_due()
        await self.store.note_due()


async def test_a_long_lease_ends_in_a_crash_loop_and_a_short_one_begins_anew(tmp_path: Path) -> None:
    place = Crashing(tmp_path)
    await place.start()
    long, short = await place.store.lease_grant(1_000), await place.store.lease_grant(LONG)
    for left in (700, 400, 100):
        await place.elapse(EVERY - 1)
        await place.store.lease_keepalive(short.id)
        await place.elapse(1)
        assert await place.store.lease_ttl(short.id) == (LONG, LONG - 1)
        await place.crash()
        assert await place.store.lease_ttl(long.id) == (1_000, left)
        assert await place.store.lease_ttl(short.id) == (LONG, LONG)
    await place.elapse(101)
    assert await place.store.lease_keepalive(long.id) == 0
    await place.store.close()


async def test_a_heartbeat_after_a_note_counts_after_a_crash(tmp_path: Path) -> None:
    for many in (False, True):
        place = Crashing(tmp_path / str(many))
        await place.start()
        lease = (await place.store.lease_grant(1_000)).id
        await place.elapse(900)
        if many:
            assert await place.store.lease_keepalive_many([lease]) == []
        else:
            assert await place.store.lease_keepalive(lease) == 1_000
        await place.crash()
        assert await place.store.lease_ttl(lease) == (1_000, 1_000)
        await place.store.close()


async def test_only_the_first_heartbeat_after_a_note_writes(tmp_path: Path) -> None:
    place = Crashing(tmp_path)
    await place.start()
    lease = (await place.store.lease_grant(1_000)).id
    await place.elapse(EVERY)
    await place.store.lease_keepalive(lease)

    def files() -> list[tuple[int, int]]:
        found = (path.stat() for path in sorted((tmp_path / "0").iterdir()))
        return [(each.st_mtime_ns, each.st_size) for each in found]

    before = files()
    for _ in range(50):
        await place.store.lease_keepalive(lease)
    assert files() == before
    await place.store.close()


@pytest.mark.parametrize("many", [False, True])
async def test_a_heartbeat_works_on_a_full_disk_and_counts_after_a_crash(tmp_path: Path, many: bool) -> None:
    place = Crashing(tmp_path)
    await place.start()
    lease = (await place.store.lease_grant(1_000)).id
    await place.elapse(900)
    with no_disk(tmp_path / "0" / "lock"):
        with pytest.raises((NoSpace, Unavailable)):
            await place.store.put(b"a", b"")
        for _ in range(2):
            if many:
                assert await place.store.lease_keepalive_many([lease]) == []
            else:
                assert await place.store.lease_keepalive(lease) == 1_000
    await place.crash()
    assert await place.store.lease_ttl(lease) == (1_000, 1_000)
    await place.elapse(EVERY)  # the old note is gone, and a new one counts
    await place.crash()
    assert await place.store.lease_ttl(lease) == (1_000, 700)
    await place.store.close()


async def test_after_a_stall_no_note_counts(tmp_path: Path) -> None:
    place = Crashing(tmp_path, Guard(0.5, lambda key: b""))
    await place.start()
    lease = (await place.store.lease_grant(1_000)).id
    for _ in range(900):
        place.clock.advance(1)
        await place.store.expire_due()
    await place.store.note_due()
    place.clock.advance(50)
    await place.store.expire_due()  # a stall
    await place.store.note_due()
    await place.crash()
    assert await place.store.lease_ttl(lease) == (1_000, 1_000)
    await place.store.close()


@contextmanager
def no_disk(file: Path) -> Iterator[None]:
    """No file can grow beyond the size of `file`, and none be written beyond it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 700)),
        st.tuples(st.sampled_from(["beat", "crash"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(Steps)
def test_no_restart_ends_a_lease_earlier_than_it_would_have_ended(steps: list[tuple[str, int]]) -> None:
    """The bookkeeping alone, against the time that the lease really has left."""
    now, ttl, deadline, on_disk = 0.0, 1_000, 1_000.0, None
    long = LongLeases(now)
    long.grant(1, ttl)
    for what, amount in steps:
        if what == "pass":
            now += amount
            if now >= deadline:
                return
            for lease in long.due(now):
                long.note(lease)
                on_disk = math.ceil(deadline - now)
        elif what == "beat":
            deadline = now + ttl
            if number := long.noted(1):
                on_disk = None
                long.forget(1, number)
        else:
            begin = now + (ttl if on_disk is None else on_disk)
            assert begin >= deadline
            deadline, long = begin, LongLeases(now)
            long.grant(1, ttl, noted=on_disk is not None)


def test_a_note_taken_while_another_goes_stays() -> None:
    long = LongLeases(0.0)
    long.grant(1, 1_000)
    assert long.due(EVERY) == [1]
    long.note(1)
    first = long.noted(1)
    assert long.due(EVERY + 1) == []
    assert long.due(2 * EVERY) == [1]
    long.note(1)
    long.forget(1, first)
    assert long.noted(1) not in (0, first)
    long.revoke(1)
    long.note(1)
    assert long.noted(1) == 0
