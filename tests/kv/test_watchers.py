"""Who is told of a change, and how much may wait for one watcher."""

from __future__ import annotations

import random

import pytest

from discovery.kv.contract import KV, Event, Lagged, WatchBatch, prefix_end
from discovery.kv.watchers import Watcher, WatcherIndex


def batch(revision: int, *keys: bytes) -> WatchBatch:
    return WatchBatch(revision, [Event(KV(key, b"", revision, revision, 1)) for key in keys])


def watches(watcher: Watcher, key: bytes) -> bool:
    if not watcher.end:
        return key == watcher.key
    return watcher.key <= key and (watcher.end == b"\0" or key < watcher.end)


def test_the_index_finds_exactly_the_watchers_of_a_key(rng: random.Random) -> None:
    alphabet = [b"a", b"b", b"\xff", b"/"]

    def key(most: int) -> bytes:
        return b"".join(rng.choices(alphabet, k=rng.randint(1, most)))

    index, watchers = WatcherIndex(), list[Watcher]()
    for _ in range(400):
        start = key(4)
        end = rng.choice([b"", prefix_end(start), b"\0", start + key(2)])
        watchers.append(Watcher(start, end, 1, 10))
        index.add(watchers[-1])
    everything = Watcher(b"", prefix_end(b""), 1, 10)
    index.add(everything)
    watchers.append(everything)
    for turn in range(300):
        if turn >= 100 and watchers:
            index.remove(watchers.pop(rng.randrange(len(watchers))))
        at = key(5)
        wanted = {watcher for watcher in watchers if watches(watcher, at)}
        found = list(index.watching(at))
        assert len(found) == len(set(found))
        assert set(found) == wanted
    for watcher in watchers:
        index.remove(watcher)
        index.remove(watcher)
    assert [index._by_key, index._by_prefix, index._by_range, index._lengths] == [{}, {}, {}, {}]


def test_a_batch_is_cut_to_what_each_watcher_covers() -> None:
    index = WatcherIndex()
    one, some, none = (
        Watcher(b"a", b"", 1, 10),
        Watcher(b"a", prefix_end(b"a"), 1, 10),
        Watcher(b"x", b"", 1, 10),
    )
    for watcher in (one, some, none):
        index.add(watcher)
    whole = batch(5, b"a", b"ab", b"b")
    index.dispatch([whole])
    assert one.take() == WatchBatch(5, whole.events[:1])
    assert some.take() == WatchBatch(5, whole.events[:2])
    assert none.take() is None


def test_a_full_queue_is_dropped_and_its_watcher_leaves_the_index() -> None:
    index, slow, quick = WatcherIndex(), Watcher(b"a", b"", 1, 3), Watcher(b"a", b"", 1, 3)
    index.add(slow)
    index.add(quick)
    for revision in range(1, 6):
        index.dispatch([batch(revision, b"a")])
        assert quick.take() == batch(revision, b"a")
    with pytest.raises(Lagged):
        slow.take()
    assert list(index.watching(b"a")) == [quick]


def test_what_waits_can_be_read_after_the_end() -> None:
    watcher = Watcher(b"a", b"", 1, 3)
    watcher.push(batch(1, b"a"))
    watcher.finish()
    assert watcher.ended
    assert watcher.take() == batch(1, b"a")
    assert watcher.take() is None


def test_a_watcher_that_keeps_up_is_never_cut_off() -> None:
    watcher = Watcher(b"a", b"", 1, 3)
    assert watcher.push(batch(1, b"a"))
    for revision in range(2, 20):  # one batch always waits
        assert watcher.push(batch(revision, b"a", b"a"))
        assert watcher.take() is not None
        assert watcher.push(batch(revision, b"a"))
        assert watcher.take() is not None
