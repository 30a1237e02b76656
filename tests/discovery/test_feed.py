"""The feed against a real store: nothing missed, nothing taken back, through every break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.feed import Feed
from discovery.kv.contract import KV, Put, RangeResult, Store, Unavailable, WatchBatch
from discovery.kv.embedded import EmbeddedStore
from discovery.metrics import Metrics
from discovery.view import View
from tests.support.api import Parts, running_parts, until
from tests.support.clock import FakeClock

VALUE = b'{"host":"10.0.0.1"}'


def keys(view: View) -> list[bytes]:
    return [record.key for record in view.root.walk()]


async def test_it_loads_and_then_follows(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.store.start()
    await parts.store.put(b"/skydns/test/a", VALUE)
    await parts.store.put(b"/skydns2/test/a", VALUE)
    await parts.feed.start()
    assert parts.view.ready
    assert (keys(parts.view), parts.view.revision) == ([b"/skydns/test/a"], 3)
    assert parts.view.unreadable == {}  # what lies beside the prefix is not even looked at
    revision = await parts.store.put(b"/skydns/test/b", VALUE)
    assert await parts.feed.wait(revision, 5)
    assert keys(parts.view) == [b"/skydns/test/a", b"/skydns/test/b"]
    revision, _ = await parts.store.delete(b"/skydns/", b"/skydns0")
    assert await parts.feed.wait(revision, 5)
    assert keys(parts.view) == []
    await parts.feed.close()
    await parts.feed.close()
    await parts.store.close()


async def test_start_raises_when_the_store_cannot_be_read(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    with pytest.raises(Unavailable):
        await parts.feed.start()
    assert not parts.view.ready


async def test_others_get_their_turn_while_much_is_applied(tmp_path: Path) -> None:
    """Ten revisions of 64 changes, told by the store at once."""
    async with running_parts(tmp_path) as parts:
        seen: set[int] = set()

        async def look() -> None:
            while parts.view.root.count < 640:
                seen.add(parts.view.root.count)
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        names = [[b"/skydns/test/%d/%d" % (one, each) for each in range(64)] for one in range(10)]
        await asyncio.gather(*(parts.store.txn([], [Put(name, VALUE) for name in some]) for some in names))
        await looking
        assert seen == {0, 4 * 64, 8 * 64}


async def test_waiting(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        at = parts.view.revision
        waits = [asyncio.create_task(parts.feed.wait(at + step, 5)) for step in (3, 1, 2)]
        for number in range(3):
            await parts.store.put(b"/skydns/test/a", b"%d" % number)
        assert await asyncio.gather(*waits) == [True, True, True]
        assert await parts.feed.wait(at, 0) is True
        assert await parts.feed.wait(at + 4, 0.01) is False
        await parts.store.put(b"/elsewhere", b"")  # no revision of the prefix: brings nobody further
        assert await parts.feed.wait(at + 4, 0.01) is False
        last = asyncio.create_task(parts.feed.wait(at + 99, 60))
        condition = asyncio.create_task(parts.feed.wait_until(lambda: False, 60))
        await asyncio.sleep(0)
        await parts.feed.close()
        assert [await last, await condition] == [False, False]


async def test_waiting_for_a_condition(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        assert await parts.feed.wait_until(lambda: True, 0)
        assert not await parts.feed.wait_until(lambda: False, 0.01)
        wait = asyncio.create_task(parts.feed.wait_until(lambda: parts.view.root.count == 2, 5))
        await parts.store.put(b"/skydns/test/a", VALUE)
        await parts.store.put(b"/skydns/test/b", VALUE)
        assert await wait


async def test_waiting_takes_in_the_views_that_follow(tmp_path: Path) -> None:
    follow = True

    async def followed(seconds: float) -> bool:
        waited.append((feed_view.revision, seconds))
        return follow

    waited: list[tuple[int, float]] = []
    async with running_parts(tmp_path) as parts:
        feed_view = View("/skydns", apexes=[], grace_of=lambda path: 0.0)
        feed = Feed(
            parts.store,
            feed_view,
            Metrics(),
            prefix="/skydns",
            stale_after=30,
            clock=parts.clock,
            followed=followed,
        )
        await feed.start()
        revision = await parts.store.put(b"/skydns/test/a", VALUE)
        assert await feed.wait(revision, 5)
        assert await feed.wait_until(lambda: True, 4)
        assert waited == [(revision, 5), (revision, 4)]
        assert not await feed.wait(revision + 9, 0.01)
        assert not await feed.wait_until(lambda: False, 0.01)
        assert len(waited) == 2
        follow = False
        assert not await feed.wait(revision, 5)
        assert not await feed.wait_until(lambda: True, 5)
        await feed.close()


# ---------------------------------------------------------------- a store that changes while it is being read


class Turning(EmbeddedStore):
    """The real store; `between` is done after each page that is not the last, as if by another client."""

    between: Sequence[tuple[bytes, bytes | None]] = ()

    async def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, keys_only: bool = False, stale_ok: bool = False
    ) -> RangeResult:
        page = await super().range(key, end, limit=limit, keys_only=keys_only, stale_ok=stale_ok)
        changes, self.between = (self.between, ()) if page.more else ((), self.between)
        for changed, value in changes:
            await (self.delete(changed) if value is None else self.put(changed, value))
        return page


async def test_changes_between_the_pages_of_a_load(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []

    class Watched(View):
        def apply(self, events: object, revision: int, now: float) -> None:
            super().apply(events, revision, now)  # type: ignore[arg-type]  # only looked at on the way
            hosts = [record.fields.host for record in self.root.walk() if record.fields is not None]
            seen.append((revision, hosts))

    store = Turning(tmp_path)
    await store.start()
    for name in (b"a", b"b", b"c", b"d"):
        await store.put(b"/skydns/test/" + name, b'{"host":"old"}')
    # After the first page (a, b): a goes, c is replaced twice, d goes and comes back, e is new.
    store.between = [
        (b"/skydns/test/a", None),
        (b"/skydns/test/c", b'{"host":"c1"}'),
        (b"/skydns/test/c", b'{"host":"c2"}'),
        (b"/skydns/test/d", None),
        (b"/skydns/test/d", b'{"host":"d2"}'),
        (b"/skydns/test/e", b'{"host":"e1"}'),
    ]
    view = Watched("/skydns", apexes=[], grace_of=lambda path: 0.0)
    feed = Feed(store, view, Metrics(), prefix="/skydns", stale_after=30, page=2)
    await feed.start()
    assert view.revision == 5  # the first page's
    assert await feed.wait(11, 5)
    assert [record.key[-1:] for record in view.root.walk()] == [b"b", b"c", b"d", b"e"]
    assert seen[0] == (6, ["old", "c2", "d2", "e1"])
    assert all(hosts == ["old", "c2", "d2", "e1"] for _, hosts in seen)  # nothing is ever taken back
    revision = await store.put(b"/skydns/test/c", b'{"host":"c3"}')
    assert await feed.wait(revision, 5)
    assert seen[-1][1] == ["old", "c3", "d2", "e1"]
    await feed.close()
    await store.close()


# ---------------------------------------------------------------- breaks


class Cutting(EmbeddedStore):
    """The real store; `cut` ends the present watch with an error, and `refuse` every new one."""

    failure: Exception | None = None
    refuse: Exception | None = None
    watches = 0

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes = b"", *, from_revision: int, history: str = ""
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        if self.refuse is not None:
            raise self.refuse
        self.watches += 1
        self.news = asyncio.Event()
        async with super().watch(key, end, from_revision=from_revision) as batches:
            yield self._until_cut(batches)

    async def _until_cut(self, batches: AsyncIterator[WatchBatch]) -> AsyncIterator[WatchBatch]:
        while True:
            batch = asyncio.ensure_future(anext(batches))
            cut = asyncio.ensure_future(self.news.wait())
            try:
                await asyncio.wait([batch, cut], return_when=asyncio.FIRST_COMPLETED)
                if self.failure is not None:
                    failure, self.failure = self.failure, None
                    raise failure
                yield await batch
            finally:
                batch.cancel()
                cut.cancel()
                await asyncio.gather(batch, cut, return_exceptions=True)

    def cut(self, failure: Exception) -> None:
        self.failure = failure
        self.news.set()


@asynccontextmanager
async def cutting(path: Path) -> AsyncIterator[tuple[Cutting, View, Feed, FakeClock, Metrics]]:
    clock, metrics = FakeClock(), Metrics()
    store = Cutting(path)
    view = View("/skydns", apexes=[], grace_of=lambda path: 60.0)
    feed = Feed(store, view, metrics, prefix="/skydns", stale_after=30, clock=clock)
    await store.start()
    await store.put(b"/skydns/test/a", VALUE)
    await feed.start()
    await until(lambda: store.watches == 1)
    try:
        yield store, view, feed, clock, metrics
    finally:
        await feed.close()
        await store.close()


async def test_a_cut_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    async with cutting(tmp_path) as (store, view, feed, _, metrics):
        for number, failure in enumerate((Unavailable("away"), ValueError("a fault"))):
            store.cut(failure)
            revision = await store.put(b"/skydns/test/b", b"%d" % number)
            assert await feed.wait(revision, 5)
            assert not feed.lost
        assert metrics.feed_reconnects == 2
        assert metrics.feed_loads == 2  # after the fault the view may be torn
        assert keys(view) == [b"/skydns/test/a", b"/skydns/test/b"]


async def test_what_was_compacted_meanwhile_is_loaded_as_a_diff(tmp_path: Path) -> None:
    async with cutting(tmp_path) as (store, view, feed, _, metrics):
        kept = view.record((b"test", b"a"))
        store.refuse = Unavailable("away")
        store.cut(Unavailable("away"))
        await until(lambda: feed.lost)
        await store.put(b"/skydns/test/b", VALUE)
        await store.delete(b"/skydns/test/b")
        revision = await store.put(b"/skydns/test/c", VALUE)
        await store.compact(revision)
        store.refuse = None
        await until(lambda: metrics.feed_loads == 2)
        assert keys(view) == [b"/skydns/test/a", b"/skydns/test/c"]
        assert view.record((b"test", b"a")) is kept
        revision = await store.put(b"/skydns/test/d", VALUE)
        assert await feed.wait(revision, 5)


async def test_another_store_with_a_smaller_revision_is_loaded_anew(tmp_path: Path) -> None:
    async with cutting(tmp_path / "one") as (store, view, feed, _, metrics):
        for _ in range(5):
            await store.put(b"/skydns/test/a", VALUE)
        await until(lambda: view.revision == 7)
        store.refuse = Unavailable("away")
        store.cut(Unavailable("away"))
        await until(lambda: feed.lost)
        await store.close()
        store._path = tmp_path / "two"  # restored from elsewhere, as it were
        await store.start()
        await store.put(b"/skydns/test/z", VALUE)
        store.refuse = None
        await until(lambda: metrics.feed_loads == 2)
        assert keys(view) == [b"/skydns/test/z"]
        assert view.revision > 7  # no revision goes back, though the other store's was 2


async def test_staleness_and_back(tmp_path: Path) -> None:
    async with cutting(tmp_path) as (store, view, feed, clock, _):
        epoch = view.epoch.version
        store.refuse = Unavailable("away")
        store.cut(Unavailable("away"))
        await until(lambda: feed.lost)
        clock.advance(30)
        await asyncio.sleep(0.3)  # a round of chores; at stale_after itself nothing is stale yet
        assert not view.stale
        assert feed.stale_seconds == 30
        clock.advance(1)
        await until(lambda: view.stale)
        assert view.epoch.version == epoch + 1
        assert keys(view) == [b"/skydns/test/a"]
        store.refuse = None
        await until(lambda: not view.stale)
        assert (view.epoch.version, feed.stale_seconds) == (epoch + 2, 0.0)


# ---------------------------------------------------------------- chores


async def test_ghosts_are_swept_when_their_grace_is_over(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.store.put(b"/skydns/x/a", VALUE)
        revision, _ = await parts.store.delete(b"/skydns/x/a")
        assert await parts.feed.wait(revision, 5)
        assert parts.view.find((b"x", b"a")) is not None
        parts.clock.advance(61)
        await until(lambda: parts.view.find((b"x",)) is None)


async def test_foreign_leases_are_asked_once_each(tmp_path: Path) -> None:
    class Asked(EmbeddedStore):
        asked: list[int]

        async def lease_ttl(self, lease_id: int) -> tuple[int, int]:
            self.asked.append(lease_id)
            return await super().lease_ttl(lease_id)

    store = Asked(tmp_path)
    store.asked = []
    await store.start()
    await store.lease_grant(77, 7)
    await store.put(b"/skydns/test/a", VALUE, lease=7)
    view = View("/skydns", apexes=[], grace_of=lambda path: 60.0)
    feed = Feed(store, view, Metrics(), prefix="/skydns", stale_after=30)
    await feed.start()
    await until(lambda: not view.unknown_leases)
    record = view.record((b"test", b"a"))
    assert record is not None
    assert record.lease_ttl == 77
    await store.lease_grant(88, 8)
    revision = await store.put(b"/skydns/test/b", VALUE, lease=8)
    assert await feed.wait(revision, 5)
    await until(lambda: not view.unknown_leases)
    await store.put(b"/skydns/test/c", VALUE, lease=8)
    await store.put(b"/skydns/test/d", b'{"lease_ttl":88}', lease=8)
    view.unknown_leases.add(9)  # one that ended before it could be asked
    revision = await store.put(b"/skydns/test/e", VALUE)
    assert await feed.wait(revision, 5)
    await until(lambda: 9 in store.asked)
    for _ in range(3):
        revision = await store.put(b"/skydns/test/e", VALUE)
        assert await feed.wait(revision, 5)
    await asyncio.sleep(0.01)
    assert store.asked == [7, 8, 9]
    await feed.close()
    await store.close()


async def test_an_unreadable_record_is_logged_once_with_its_key_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_parts(tmp_path) as parts:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                await parts.store.put(b"/skydns/test/bad\xff", b"?")
            await parts.caught_up()
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert lines[0].startswith("the record /skydns/test/bad\\xff is left out: not JSON")
        assert parts.metrics.unreadable == 1


def test_the_doubles_are_stores(tmp_path: Path) -> None:
    stores: Sequence[Store] = [Turning(tmp_path), Cutting(tmp_path)]
    assert all(isinstance(store, EmbeddedStore) for store in stores)
    assert KV(b"k", b"", 1, 1, 1).lease == 0
