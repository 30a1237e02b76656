"""Watches on an etcd cluster: through members that die, hang or lose their quorum, compaction, silence and size."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.kv.contract import Compacted, FutureRevision, Put, Unavailable, WatchBatch
from discovery.kv.etcd import EtcdStore
from discovery.kv.etcd_endpoints import Access, Endpoints
from discovery.kv.etcd_history import History
from discovery.kv.etcd_watch import MAX_DOUBT, EtcdWatch, Moved
from tests.support.api import until
from tests.support.clock import FakeClock
from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster
from tests.support.etcd_store import eventually, opened
from tests.support.node import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: EtcdCluster) -> Iterator[EtcdCluster]:
    _three.revive()
    yield _three
    _three.revive()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    flags = ["--experimental-watch-progress-notify-interval", "1s"]
    with etcd_cluster(tmp_path_factory.mktemp("one"), flags=flags) as cluster:
        yield cluster


def in_use(cluster: EtcdCluster, store: EtcdStore) -> EtcdMember:
    return next(member for member in cluster.members if member.client == store._endpoints.urls[0])


async def write(store: EtcdStore, prefix: bytes, count: int) -> int:
    """That many revisions under the prefix, two events each; the first of them."""
    first = await store.put(prefix + b"begin", b"")
    for start in range(0, count, 200):
        numbers = range(start, min(count, start + 200))
        await asyncio.gather(
            *(store.txn([], [Put(prefix + b"a%d" % n, b""), Put(prefix + b"b%d" % n, b"")]) for n in numbers)
        )
    return first + 1


@asynccontextmanager
async def bare(access: Access, key: bytes, revision: int, clock: FakeClock) -> AsyncIterator[EtcdWatch]:
    """A watch that no store looks after."""
    endpoints = Endpoints(access)
    history = History(endpoints, lambda: None)
    watch = EtcdWatch(endpoints, history, key, b"", revision, "", clock, lambda watch: None)
    try:
        async with watch:
            yield watch
    finally:
        await endpoints.close()


async def test_members_killed_in_a_catch_up_lose_no_event_and_tell_none_twice(three: EtcdCluster) -> None:
    count, prefix = 12_000, b"/catch-up/"
    async with opened(three) as store:
        first = await write(store, prefix, count)
        revisions: list[int] = []

        async def follow() -> None:
            """Goes on where it was when there is no leader for a moment, as the feed does."""
            from_revision = revisions[-1] + 1 if revisions else first
            async with store.watch(prefix, prefix[:-1] + b"0", from_revision=from_revision) as batches:
                async for batch in batches:
                    assert len(batch.events) == 2
                    revisions.append(batch.revision)
                    if len(revisions) in (2_000, 7_000):
                        three.revive()  # the one that was killed before, so that there is a quorum
                        in_use(three, store).kill()
                    if len(revisions) == count:
                        return

        await eventually(follow)
        assert revisions == list(range(first, first + count))


async def test_a_watch_goes_on_at_the_last_event_not_where_the_header_is(three: EtcdCluster) -> None:
    """The header of every answer in a catch-up tells the store's revision, far ahead of its events."""
    prefix = b"/header/"
    async with opened(three) as store:
        first = await write(store, prefix, 3_000)
        async with store.watch(prefix, prefix[:-1] + b"0", from_revision=first) as batches:
            revisions = [(await anext(batches)).revision]
            assert isinstance(batches, EtcdWatch)
            for _ in range(20):
                batches.interrupt(Moved("told so by the test"))
                revisions += [(await anext(batches)).revision for _ in range(140)]
            revisions += [(await anext(batches)).revision for _ in range(199)]
        assert revisions == list(range(first, first + 3_000))


async def test_a_watch_on_a_hung_member_moves_on(three: EtcdCluster) -> None:
    async with opened(three) as store:
        revision = await store.put(b"/hung", b"1")
        async with store.watch(b"/hung", from_revision=revision) as batches:
            assert (await anext(batches)).revision == revision
            in_use(three, store).pause()
            await eventually(lambda: store.put(b"/hung", b"2"))
            batch = await asyncio.wait_for(anext(batches), 20)
            assert batch.events[0].kv.version == 2


async def test_a_watch_on_a_member_without_a_quorum_ends_by_itself(three: EtcdCluster) -> None:
    left, *others = three.members
    async with opened(three) as store:
        revision = await store.put(b"/alone", b"1")
    async with bare(Access([left.client]), b"/alone", revision, FakeClock()) as batches:
        assert (await anext(batches)).revision == revision
        for member in others:
            member.kill()
        with pytest.raises(Unavailable, match="no leader"):
            await asyncio.wait_for(anext(batches), 20)


async def test_progress_alone_moves_the_place_where_a_watch_goes_on(one: EtcdCluster) -> None:
    async with opened(one) as store:
        revision = await store.put(b"/quiet", b"1")
        async with store.watch(b"/quiet", from_revision=revision + 1) as batches:
            for _ in range(5):
                revision = await store.put(b"/busy", b"")
            while True:  # progress may have been told in the middle
                batch = await asyncio.wait_for(anext(batches), 20)
                assert batch.events == ()
                if batch.revision >= revision:
                    break
            assert batch.revision == revision
            await store.compact(revision)
            assert isinstance(batches, EtcdWatch)
            batches.interrupt(Moved("told so by the test"))
            changed = await store.put(b"/quiet", b"2")
            batch = await anext(batches)
            while not batch.events:
                batch = await anext(batches)
            assert batch.revision == changed


async def test_a_delete_at_the_very_revision_that_is_compacted_is_not_missed_over_a_move(
    three: EtcdCluster,
) -> None:
    """etcd takes a watch from that revision, and has forgotten its deletes."""
    leader = three.leader()
    async with opened(three) as store, opened(Access([leader.client])) as other:
        while store._endpoints.urls[0] == leader.client:
            store._endpoints.leave(store._endpoints.current, "a follower is wanted")
        revision = await store.put(b"/deleted", b"1")
        async with store.watch(b"/deleted", from_revision=revision) as batches:
            assert (await anext(batches)).revision == revision
            in_use(three, store).pause()
            deleted, _ = await other.delete(b"/deleted")
            await other.compact(deleted)
            try:
                batch = await asyncio.wait_for(anext(batches), 20)
            except Compacted:
                return  # then it is read anew
            assert (batch.revision, batch.events[0].deleted) == (deleted, True)


async def test_history_that_is_compacted_under_an_open_watch_is_told(three: EtcdCluster) -> None:
    """etcd says so in a message that cancels the watch, on a stream that stays open."""
    async with opened(three) as store:
        revision = await store.put(b"/old", b"1")
        async with store.watch(b"/old", from_revision=revision) as batches:
            assert (await anext(batches)).revision == revision
            last = max(await asyncio.gather(*(store.put(b"/busy", b"") for _ in range(5))))
            await store.compact(last)
            assert isinstance(batches, EtcdWatch)
            batches.interrupt(Moved("told so by the test"))
            with pytest.raises(Compacted) as told:
                await asyncio.wait_for(anext(batches), 10)
            assert told.value.compact_revision == last


async def test_a_revision_cut_into_fragments_is_one_batch(one: EtcdCluster) -> None:
    """etcd cuts an answer at 2 MB, wherever that is: here in the middle of a revision."""
    big, count = bytes(600_000), 6
    async with opened(one) as store:
        first = await store.put(b"/big/", b"")
        for _ in range(count):
            await store.txn([], [Put(b"/big/a", big), Put(b"/big/b", big)])
        async with store.watch(b"/big/", b"/big0", from_revision=first + 1) as batches:
            for revision in range(first + 1, first + 1 + count):
                batch = await anext(batches)
                assert (batch.revision, [event.kv.key for event in batch.events]) == (
                    revision,
                    [b"/big/a", b"/big/b"],
                )


async def test_a_watch_that_is_silent_while_the_store_goes_on_is_moved_ever_more_rarely(
    three: EtcdCluster,
) -> None:
    clock, seconds = FakeClock(), 2_000
    member = three.members[0]
    async with opened(three) as store:
        revision = await store.put(b"/silent", b"1")
    async with bare(Access([member.client]), b"/silent", revision, clock) as watch:
        assert (await anext(watch)).revision == revision
        batches: list[WatchBatch] = []

        async def read() -> None:
            async for batch in watch:
                batches.append(batch)  # noqa: PERF401  # as they come

        reading = asyncio.create_task(read())
        watch.look(revision)
        clock.advance(100)
        watch.look(revision)  # nothing happened, so silence is right
        begun, moved_at = member.started("Watch"), []
        for second in range(0, seconds, 2):
            watch.look(revision + 7)
            if watch._interrupt is not None:
                moved_at.append(second)
                await until(lambda: watch._interrupt is None and watch._opened_at == clock())
            clock.advance(2)
        assert member.started("Watch") - begun == len(moved_at)
        gaps = [after - before for before, after in itertools.pairwise(moved_at)]
        assert moved_at[0] <= 4  # it was silent for a second and more
        assert gaps == sorted(gaps)
        assert max(gaps) >= MAX_DOUBT
        assert len(moved_at) < 2 + 8 + seconds / MAX_DOUBT
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_cluster_that_took_the_place_of_another_ends_the_watch(tmp_path: Path) -> None:
    """A watch on it, from a revision that it has not, would be `created` and then wait for ever."""
    with etcd_cluster(tmp_path / "one") as cluster:
        async with opened(cluster) as store:
            await asyncio.gather(*(store.put(b"/a", b"1") for _ in range(5)))
            found = await store.range(b"/a")
            begin = found.revision + 1

            async def follow() -> None:
                async with store.watch(b"/a", from_revision=begin, history=found.history) as batches:
                    await anext(batches)

            following = asyncio.create_task(follow())
            await asyncio.to_thread(cluster.replace, tmp_path / "another")
            with pytest.raises((FutureRevision, Unavailable)):
                await asyncio.wait_for(following, 20)
            await eventually(lambda: store.range(b"/a"))
            with pytest.raises(FutureRevision):
                await follow()
            await asyncio.gather(*(store.put(b"/a", b"1") for _ in range(10)))
            assert (await store.range(b"/a")).revision > begin
            with pytest.raises(FutureRevision):  # it has that revision by now, but its history is another
                await follow()


async def test_a_history_that_changes_while_a_watch_begins_is_noticed(three: EtcdCluster) -> None:
    """After it was asked for, and before the stream is there: a login may take its time in between."""

    class Slow(Endpoints):
        async def ready(self) -> None:
            await other.advance(10_000_000)
            await history.look()

    async with opened(three) as other:
        revision = await other.put(b"/begins", b"1")
        endpoints = Slow(Access(three.endpoints))
        history = History(endpoints, lambda: None)
        watch = EtcdWatch(endpoints, history, b"/begins", b"", revision, "", FakeClock(), lambda watch: None)
        with pytest.raises(FutureRevision):
            async with watch:
                pass
        await endpoints.close()


async def test_without_a_cluster_a_watch_begins_with_an_error(three: EtcdCluster) -> None:
    async with opened(three) as store:
        await store.put(b"/a", b"1")
        for member in three.members:
            member.kill()
        await asyncio.to_thread(
            wait_for, lambda: not any(m.is_healthy() for m in three.members), 20, "all are down"
        )
        with pytest.raises(Unavailable):
            async with store.watch(b"/a", from_revision=1):
                pass
    assert not store._watches
