"""The embedded engine's watches: slow ones, their way through history, the store's end, and many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from discovery.kv.contract import (
    Compacted,
    FutureRevision,
    Lagged,
    Put,
    Unavailable,
    WatchBatch,
    prefix_end,
)
from tests.support.contract_suite import changes, take
from tests.support.embedded import opened

ALL = b"\0"


async def test_a_slow_watcher_is_cut_off_and_can_resume(tmp_path: Path) -> None:
    async with opened(tmp_path, watch_queue=10) as store:
        async with store.watch(b"", ALL, from_revision=2) as batches:
            for number in range(11):
                await store.put(b"%d" % number, b"")
            with pytest.raises(Lagged):
                await anext(batches)
            with pytest.raises(Lagged):
                await anext(batches)
        async with store.watch(b"", ALL, from_revision=2) as batches:
            assert [batch.revision for batch in await take(batches, 11)] == list(range(2, 13))


async def test_one_batch_beyond_the_queue_s_size_still_arrives(tmp_path: Path) -> None:
    async with (
        opened(tmp_path, watch_queue=10) as store,
        store.watch(b"", ALL, from_revision=2) as batches,
    ):
        await store.txn([], [Put(b"%d" % number, b"") for number in range(50)])
        assert len((await anext(batches)).events) == 50


@pytest.mark.slow
async def test_history_comes_in_pages_of_whole_revisions(tmp_path: Path) -> None:
    """More revisions than a page looks at, revisions with more events than a page, and a watch of one key."""
    async with opened(tmp_path, watch_queue=10) as store:
        for _ in range(4):
            await store.txn([], [Put(b"%d" % number, b"") for number in range(700)])
        await asyncio.gather(*(store.put(b"x", b"%d" % number) for number in range(6_000)))
        await store.put(b"0", b"last")
        async with store.watch(b"", ALL, from_revision=1) as batches:
            every = await take(batches, 6_005)
        assert [batch.revision for batch in every] == list(range(2, 6_007))
        assert [len(batch.events) for batch in every] == [700] * 4 + [1] * 6_001
        async with store.watch(b"0", from_revision=1) as batches:
            assert [batch.revision for batch in await take(batches, 5)] == [2, 3, 4, 5, 6_006]


async def test_a_watch_overtaken_by_compaction_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(10):
            await store.put(b"a", b"%d" % number)
        async with store.watch(b"a", from_revision=2) as batches:
            await store.compact(8)
            with pytest.raises(Compacted) as cut:
                await anext(batches)
            assert cut.value.compact_revision == 8
        with pytest.raises(Compacted):
            async with store.watch(b"a", from_revision=7):
                raise AssertionError("entered")


async def test_waiting_for_a_batch_can_be_cancelled(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(b"a", b"past")
        async with store.watch(b"a", from_revision=1) as batches:
            for value in (b"past", b"1", b"2"):  # the first is read from history, the others live
                waiting = asyncio.ensure_future(anext(batches))
                await asyncio.sleep(0)
                waiting.cancel()
                if value != b"past":
                    await store.put(b"a", value)
                assert changes(await anext(batches)) == [(b"a", value)]
                assert waiting.cancelled()


async def test_a_watch_in_its_history_ends_when_the_store_closes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(b"a", b"1")
        async with store.watch(b"a", from_revision=1) as batches:
            await store.close()
            assert [batch async for batch in batches] == []


async def test_a_watch_that_is_caught_in_its_history_by_the_close_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(b"a", b"1")
        async with store.watch(b"a", from_revision=1) as batches:
            store._watches.begin_close()
            await store._reads.close()
            assert [batch async for batch in batches] == []


async def test_a_watch_begins_after_what_a_read_has_shown_before_the_loop_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        await store.put(b"a", b"1")
        told, held = store._writes._tell, list[Callable[[], None]]()
        monkeypatch.setattr(store._writes, "_tell", held.append)
        puts = [asyncio.create_task(store.put(b"a", value)) for value in (b"2", b"3")]
        while (found := await store.range(b"a")).kvs[0].value != b"3":
            pass
        assert store._watches.revision == found.revision - 2
        with pytest.raises(FutureRevision):
            async with store.watch(b"a", from_revision=found.revision + 2):
                pass
        async with store.watch(b"a", from_revision=found.revision + 1) as batches:
            monkeypatch.undo()
            for call in held:
                told(call)
            await asyncio.gather(*puts)
            last = await store.put(b"a", b"4")
            assert [changes(batch) for batch in await take(batches, 1)] == [[(b"a", b"4")]]
            assert last == found.revision + 1


async def test_a_watch_opened_while_the_store_closes_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        assert store._watches._closing
        with pytest.raises(Unavailable, match="closing"):
            async with store.watch(b"a", from_revision=1):
                pass
        await closing


@pytest.mark.slow
async def test_ten_thousand_watchers_elsewhere_cost_a_write_nothing(tmp_path: Path) -> None:
    """Counted, not timed: a write looks at no watcher that watches another key or prefix."""
    async with opened(tmp_path) as store:
        pushed: list[WatchBatch] = []
        contexts = [store.watch(b"k/%d" % number, from_revision=2) for number in range(5_000)]
        contexts += [
            store.watch(b"p/%d/" % number, prefix_end(b"p/%d/" % number), from_revision=2)
            for number in range(5_000)
        ]
        streams = [await context.__aenter__() for context in contexts]
        assert sum(1 for _ in store._watches._index.watching(b"elsewhere")) == 0
        assert sum(1 for _ in store._watches._index.watching(b"p/7/x")) == 1
        await store.put(b"k/7", b"")
        pushed.append(await anext(streams[7]))
        for context in contexts:
            await context.__aexit__(None, None, None)
        assert changes(pushed[0]) == [(b"k/7", b"")]
        assert sum(1 for _ in store._watches._index.watching(b"k/7")) == 0
