"""The feed: keeps the view equal to the store, for ever.

Owns the way from the store to the view: range -> restore -> watch -> apply, and again after every break. It also
tells the view the time (ghosts, staleness) and the TTLs of foreign leases. It never writes to the store, and no
other part writes to the view. How: the watch covers `PREFIX/` only and goes on from the view's revision; what
is compacted, or belongs to another store, is loaded anew as a diff. Keys that a later page of a load brought from
after the first page's revision are remembered, so that no older event of the watch takes them back. Where a last
view is kept on disk (`saved`), the feed starts from that when the store does not answer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from discovery.errors import StoreError
from discovery.kv.contract import (
    KV,
    Compacted,
    Event,
    FutureRevision,
    Lagged,
    LeaseNotFound,
    Store,
    Unavailable,
    WatchBatch,
    prefix_end,
)
from discovery.metrics import Metrics
from discovery.saved_view import SavedView
from discovery.view import View

log = logging.getLogger(__name__)

PAGE = 50_000  # keys a range call; etcd's answers stay below its 64 MB limit
FIRST_BACK_OFF = 0.05
MAX_BACK_OFF = 2.0
CHORES_EVERY = 0.25
FIRST_ANSWER = 1.0  # seconds a store may take to say a word before the last view answers in its place
BREATH = 200  # events, some 4 ms of work, after which others get their turn
LEASES_AT_ONCE = 32  # questions for foreign leases in flight


class Listener(Protocol):
    """Who is told of what the view was told, in the same turn of the loop, right after."""

    def applied(self, events: Sequence[Event], revision: int) -> None:
        """One whole revision; no revision is told twice, and none goes backwards."""

    def reloaded(self, revision: int) -> None:
        """All was loaded anew at `revision`: what lies between is not told."""


class Feed:
    """`prefix` without a final slash; `stale_after` in seconds; `clock` gives seconds of any monotonic clock.

    `saved` None: there is no last view, and a store that can't be read at the start is an error.
    `followed` waits, for some seconds at most, until all other views hold what the view holds; None: there are none.

    Back-offs and the time limits of waiting are the event loop's; everything the view is told is `clock`'s.
    """

    def __init__(
        self,
        store: Store,
        view: View,
        metrics: Metrics,
        *,
        prefix: str,
        stale_after: float,
        saved: SavedView | None = None,
        clock: Callable[[], float] = time.monotonic,
        page: int = PAGE,
        followed: Callable[[float], Awaitable[bool]] | None = None,
    ) -> None:
        self._store = store
        self._view = view
        self._metrics = metrics
        self._key = prefix.encode() + b"/"
        self._end = prefix_end(self._key)
        self._stale_after = stale_after
        self._saved = saved
        self._clock = clock
        self._page = page
        self._followed = followed
        self._ahead: dict[bytes, int] = {}  # key -> revision, of keys loaded from after the view's revision
        self._ahead_until = 0
        self._history = ""  # of the store that the view was loaded from
        self._lost_at: float | None = None
        self._moved_at = clock()
        self.trouble = ""  # why the store is out of reach; "" while it is there
        self._back_off = FIRST_BACK_OFF
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._conditions: dict[asyncio.Future[bool], Callable[[], bool]] = {}
        self._foreign = asyncio.Event()
        self.listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when the view has been loaded for the first time. Raises the store's error when it cannot be.

        With a last view on disk it also returns when the store is out of reach: what was saved answers, stale, and
        where nothing was, the view is not ready.
        """
        is_loaded = await self._load_or_fall_back()
        self._tasks = [
            asyncio.create_task(self._run(load=not is_loaded), name="feed"),
            asyncio.create_task(self._do_chores(), name="feed-chores"),
            asyncio.create_task(self._learn_leases(), name="feed-leases"),
        ]

    async def close(self) -> None:
        """Ends following; whoever waits is told False. Closing twice is allowed."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiter in (*(waiter for _, _, waiter in self._waiters), *self._conditions):
            if not waiter.done():
                waiter.set_result(False)
        self._waiters.clear()
        self._conditions.clear()

    @property
    def lost(self) -> bool:
        """Whether the store is out of reach now, as far as the watch tells."""
        return self._lost_at is not None

    @property
    def stale_seconds(self) -> float:
        """For how long the store has been out of reach; 0.0 while it is there."""
        return 0.0 if self._lost_at is None else self._clock() - self._lost_at

    @property
    def age(self) -> float:
        """Seconds since the view last changed."""
        return self._clock() - self._moved_at

    async def wait(self, revision: int, seconds: float) -> bool:
        """True once the view, and all that follow it, hold `revision`, False after `seconds` without.

        Only for the revision of a write that changed something below the prefix: no batch brings any other,
        so for those it would wait in vain.
        """
        if self._view.revision < revision:
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiters, (revision, next(self._order), waiter))
            if not await _within(waiter, seconds):
                return False
        return self._followed is None or await self._followed(seconds)

    async def wait_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """True once `holds()`, which is asked after every batch; False after `seconds` without.

        For a change whose revision the store does not tell, such as the revocation of a lease.
        """
        if not holds():
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._conditions[waiter] = holds
            try:
                if not await _within(waiter, seconds):
                    return False
            finally:
                self._conditions.pop(waiter, None)
        return self._followed is None or await self._followed(seconds)

    # ------------------------------------------------------------ following the store

    async def _load_or_fall_back(self) -> bool:
        """Whether the view was loaded from the store."""
        if self._saved is None:
            await self._load()
            return True
        try:
            async with asyncio.timeout(FIRST_ANSWER):
                await self._store.range(self._key, self._end, limit=1, keys_only=True)
            await self._load()
        except (Unavailable, TimeoutError) as error:
            age = 0.0
            saved = await self._saved.load()
            if saved is not None:
                self._view.restore(saved.kvs, saved.revision, self._clock())
                self._view.stale = True
                self._view.new_epoch()
                self._reloaded()
                age = saved.age
            self._lost(error, age)
            return False
        return True

    async def _run(self, *, load: bool) -> None:
        while True:
            try:
                if load:
                    await self._load()
                    load = False
                await self._follow()
            except (Compacted, FutureRevision) as error:
                log.info("the view is loaded anew: %s", error)
                load = True
            except Lagged as error:
                log.info("the feed goes on from revision %d: %s", self._view.revision, error)
            except StoreError as error:
                self._lost(error)
            except Exception as error:
                log.exception("the feed failed on its way to the view, which is loaded anew")
                load = True
                self._lost(error)
            self._metrics.feed_reconnects += 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * self._back_off)  # noqa: S311  # spreads the nodes
            self._back_off = min(2 * self._back_off, MAX_BACK_OFF)

    async def _load(self) -> None:
        page = await self._store.range(self._key, self._end, limit=self._page)
        seen = max(self._view.revision, self._saved.revision if self._saved is not None else 0)
        if page.revision < seen:  # an older copy was put in its place
            await self._store.advance(seen)
            page = await self._store.range(self._key, self._end, limit=self._page)
        revision, kvs, ahead = page.revision, list(page.kvs), {}
        self._history = page.history
        while page.more:
            page = await self._store.range(page.kvs[-1].key + b"\0", self._end, limit=self._page)
            if page.history != self._history:
                raise FutureRevision("the store was replaced while it was read")
            kvs.extend(page.kvs)
            ahead.update({kv.key: kv.mod_revision for kv in page.kvs if kv.mod_revision > revision})
        self._ahead, self._ahead_until = ahead, max(ahead.values(), default=0)
        if self._saved is None:
            del page  # which holds keys, too
            self._view.restore(_drained(kvs), revision, self._clock())
        else:
            self._view.restore(kvs, revision, self._clock())
            self._saved.restore(kvs, revision)
        self._metrics.feed_loads += 1
        self._reloaded()
        self._reached()

    async def _follow(self) -> None:
        start = max(1, self._view.revision)  # one early: see Store.watch
        watch = self._store.watch(self._key, self._end, from_revision=start, history=self._history)
        async with watch as batches:
            self._reached()
            applied = 0
            async for batch in batches:
                if batch.revision > self._view.revision:
                    self._apply(batch)
                applied += len(batch.events)
                if applied >= BREATH:
                    applied = 0
                    await asyncio.sleep(0)
        raise Unavailable("the store ended the watch: it is closed, or was left by its process")

    def _apply(self, batch: WatchBatch) -> None:
        events = batch.events
        if self._ahead:
            events = [each for each in events if each.kv.mod_revision > self._ahead.get(each.kv.key, 0)]
            if batch.revision >= self._ahead_until:
                self._ahead = {}
        self._view.apply(events, batch.revision, self._clock())
        if self._saved is not None:
            self._saved.apply(events, batch.revision)
        self._metrics.feed_batches += 1
        self._back_off = FIRST_BACK_OFF
        for listener in self.listeners:
            listener.applied(events, batch.revision)
        self._moved()

    def _reloaded(self) -> None:
        for listener in self.listeners:
            listener.reloaded(self._view.revision)
        self._moved()

    def _moved(self) -> None:
        """The view has a new revision: tells those who wait for it, and sees to what it found on the way."""
        self._moved_at = self._clock()
        while self._waiters and self._waiters[0][0] <= self._view.revision:
            _, _, waiter = heapq.heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(True)
        for waiter, holds in self._conditions.items():
            if not waiter.done() and holds():
                waiter.set_result(True)
        for key, reason in self._view.newly_unreadable:
            self._metrics.unreadable += 1
            log.warning("the record %s is left out: %s", key.decode(errors="backslashreplace"), reason)
        self._view.newly_unreadable.clear()
        if self._view.unknown_leases:
            self._foreign.set()

    # ------------------------------------------------------------ time

    def _lost(self, error: Exception, age: float = 0.0) -> None:
        """`age`: seconds for which the view has not been followed already."""
        if self._lost_at is not None:
            return
        self._lost_at = self._clock() - age
        self.trouble = reason = str(error) or "it does not answer"
        if self._view.ready:
            log.warning(
                "the store is out of reach, DNS goes on from revision %d: %s", self._view.revision, reason
            )
        else:
            log.warning("the store is out of reach and no view was kept, DNS is not ready: %s", reason)

    def _reached(self) -> None:
        if self._lost_at is None:
            return
        log.info("the store is back after %.1f s", self.stale_seconds)
        self._lost_at = None
        self.trouble = ""
        if self._view.stale:
            self._view.stale = False
            self._view.new_epoch()

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(CHORES_EVERY)
            try:
                self._view.sweep(self._clock())
                if self._saved is not None and self._lost_at is None:
                    self._saved.confirm()
                if (
                    not self._view.stale
                    and self._lost_at is not None
                    and self.stale_seconds > self._stale_after
                ):
                    log.warning(
                        "the store has been out of reach for %.1f s: answers are stale", self.stale_seconds
                    )
                    self._view.stale = True
                    self._view.new_epoch()
            except Exception:  # a fault here must not end the chores that come after
                log.exception("a chore of the feed failed; it is tried again")

    # ------------------------------------------------------------ foreign leases

    async def _learn_leases(self) -> None:
        """Asks for the granted TTL of every lease whose records do not carry it, once each."""
        gone: set[int] = set()
        while True:
            await self._foreign.wait()
            self._foreign.clear()
            gone &= self._view.unknown_leases
            unknown = sorted(self._view.unknown_leases - gone)
            try:
                for start in range(0, len(unknown), LEASES_AT_ONCE):
                    gone |= await self._ask(unknown[start : start + LEASES_AT_ONCE])
            except StoreError as error:
                log.debug("the TTLs of foreign leases are asked again in %.0f s: %s", MAX_BACK_OFF, error)
                await asyncio.sleep(MAX_BACK_OFF)
                self._foreign.set()
            except Exception:  # a fault here must not end the asking for good
                log.exception("asking for the TTLs of foreign leases failed")
                gone.update(unknown)

    async def _ask(self, leases: Sequence[int]) -> set[int]:
        """Tells the view what the store says of `leases`; those that are gone. Raises Unavailable."""
        answers = await asyncio.gather(*map(self._store.lease_ttl, leases), return_exceptions=True)
        gone = set()
        for lease, answer in zip(leases, answers, strict=True):
            if isinstance(answer, LeaseNotFound):
                gone.add(lease)  # its records are about to go
            elif isinstance(answer, BaseException):
                raise answer
            elif lease in self._view.unknown_leases:
                self._view.learn_lease(lease, answer[0])
        return gone


def _drained(kvs: list[KV]) -> Iterator[KV]:
    """All of them in order, each let go of when it was taken: a large load need not be held twice."""
    kvs.reverse()
    while kvs:
        yield kvs.pop()


async def _within(waiter: asyncio.Future[bool], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await waiter
    except TimeoutError:
        return False
