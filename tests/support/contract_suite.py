"""The store's contract as tests, to be run over every engine unchanged.

A subclass named Test… gives `place`: an async context manager that yields a `Place`. All keys lie under the
place's prefix and revisions are only compared, so that one cluster can serve all tests. Nothing here knows an
engine, and nothing sleeps: the tests wait on watches, with the deadline that the runner sets for a test.
What the contract says of leases is `lease_contract`, which every engine runs as a part of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from discovery.kv.contract import (
    KV,
    Compacted,
    Compare,
    Delete,
    DeleteResult,
    Event,
    FutureRevision,
    InvalidRequest,
    LeaseNotFound,
    Op,
    Put,
    PutResult,
    Range,
    RangeResult,
    Target,
    WatchBatch,
    prefix_end,
)
from tests.support.lease_contract import LeaseContract, Place, changes, take

__all__ = ["Place", "StoreContract", "changes", "take"]

Comparison = Literal["=", "!=", "<", ">"]
COMPARISONS: tuple[Comparison, ...] = ("=", "!=", "<", ">")


class StoreContract(LeaseContract):
    async def test_what_it_does_is_timed(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            before = {name: sum(each.counts) for name, each in place.store.durations.items()}
            await place.store.put(place.prefix + b"a", b"1")
            await place.store.range(place.prefix + b"a")
            after = {name: sum(each.counts) for name, each in place.store.durations.items()}
            assert len([name for name in after if after[name] > before.get(name, 0)]) >= 2

    # ---- keys and ranges

    async def test_a_put_is_read_back_with_its_revisions(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            first = await place.store.put(key, b"1")
            second = await place.store.put(key, b"2")
            assert second == first + 1
            found = await place.store.range(key)
            assert list(found.kvs) == [KV(key, b"2", first, second, 2, 0)]
            assert found.revision == second
            assert not found.more

    async def test_a_key_that_comes_back_begins_anew(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            await place.store.put(key, b"1")
            await place.store.delete(key)
            again = await place.store.put(key, b"2")
            assert (await place.store.range(key)).kvs[0] == KV(key, b"2", again, again, 1, 0)

    async def test_values_and_keys_are_any_bytes(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + bytes(range(256))
            await place.store.put(key, b"")
            await place.store.put(key + b"\0", bytes(range(256)) * 100)
            found = await place.store.range(key, prefix_end(key))
            assert [kv.value for kv in found.kvs] == [b"", bytes(range(256)) * 100]

    async def test_range_is_half_open_and_in_byte_order(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            for name in (b"b", b"a", b"\xff", b"a\0", b"c"):
                await place.store.put(p + name, name)

            async def names(start: bytes, end: bytes) -> list[bytes]:
                return [kv.key.removeprefix(p) for kv in (await place.store.range(start, end)).kvs]

            assert await names(p, prefix_end(p)) == [b"a", b"a\0", b"b", b"c", b"\xff"]
            assert await names(p + b"a", p + b"b") == [b"a", b"a\0"]
            assert await names(p + b"a", b"") == [b"a"]
            assert await names(p + b"x", p + b"y") == []
            assert (await names(p + b"b", b"\0"))[:3] == [b"b", b"c", b"\xff"]

    async def test_the_empty_prefix_is_everything(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            await place.store.put(key, b"1")
            found = await place.store.range(b"", prefix_end(b""))
            assert key in [kv.key for kv in found.kvs]

    async def test_limit_cuts_and_says_so(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            for name in (b"a", b"b", b"c"):
                await place.store.put(p + name, b"v")
            cut = await place.store.range(p, prefix_end(p), limit=2)
            assert ([kv.key for kv in cut.kvs], cut.more) == ([p + b"a", p + b"b"], True)
            whole = await place.store.range(p, prefix_end(p), limit=3)
            assert (len(whole.kvs), whole.more) == (3, False)

    async def test_keys_only_leaves_values_out(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            revision = await place.store.put(key, b"1")
            found = await place.store.range(key, keys_only=True)
            assert list(found.kvs) == [KV(key, b"", revision, revision, 1, 0)]
            stale = await place.store.range(key, stale_ok=True)
            assert stale.kvs[0].value == b"1"

    async def test_delete_counts_and_deleting_nothing_is_no_revision(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            last = 0
            for name in (b"a", b"b", b"c"):
                last = await place.store.put(p + name, b"v")
            assert await place.store.delete(p + b"a", p + b"c") == (last + 1, 2)
            assert await place.store.delete(p + b"a", p + b"c") == (last + 1, 0)
            assert await place.store.delete(p + b"c") == (last + 2, 1)
            assert await place.store.delete(p + b"c") == (last + 2, 0)

    async def test_a_wrong_call_is_refused(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, key = place.store, place.prefix + b"a"
            before = (await store.range(key)).revision
            with pytest.raises(InvalidRequest):
                await store.put(b"", b"v")
            with pytest.raises(InvalidRequest):
                await store.delete(b"")
            with pytest.raises(InvalidRequest):
                await store.range(b"")
            with pytest.raises(InvalidRequest):
                await store.txn([], [Put(key, b"1"), Put(key, b"2")])
            with pytest.raises(InvalidRequest):
                await store.txn([], [], [Put(key, b"1"), Delete(place.prefix, prefix_end(place.prefix))])
            with pytest.raises(InvalidRequest):
                await store.txn([], [Put(b"", b"1")])
            with pytest.raises(InvalidRequest):
                await store.txn([Compare(b"", Target.VERSION, "=", 0)], [])
            with pytest.raises(InvalidRequest):
                await store.txn([Compare(key, Target.VALUE, "=", 0)], [])
            with pytest.raises(InvalidRequest):
                await store.txn([], [Put(key, b"1")], grant_ttl=-1)
            with pytest.raises(InvalidRequest):
                await store.lease_grant(0)
            with pytest.raises(InvalidRequest):
                await store.lease_grant(10, -1)
            with pytest.raises(InvalidRequest):
                async with store.watch(key, from_revision=0):
                    pass
            assert (await store.range(key)).revision == before

    # ---- transactions

    @pytest.mark.parametrize(
        ("target", "op", "operand", "holds"),
        [
            (Target.VERSION, "=", 2, True),
            (Target.VERSION, ">", 2, False),
            (Target.VERSION, "<", 3, True),
            (Target.VERSION, "!=", 2, False),
            (Target.VALUE, "=", b"2", True),
            (Target.VALUE, "!=", b"1", True),
            (Target.VALUE, "<", b"3", True),
            (Target.VALUE, ">", b"2", False),
            (Target.LEASE, "=", 0, True),
            (Target.LEASE, "!=", 0, False),
            (Target.CREATE, ">", 0, True),
            (Target.MOD, ">", 0, True),
        ],
    )
    async def test_comparisons(
        self, tmp_path: Path, target: Target, op: Comparison, operand: int | bytes, holds: bool
    ) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            await place.store.put(key, b"1")
            await place.store.put(key, b"2")
            result = await place.store.txn([Compare(key, target, op, operand)], [])
            assert result.succeeded is holds

    async def test_comparisons_with_revisions(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            created = await place.store.put(key, b"1")
            changed = await place.store.put(key, b"2")
            exact = [Compare(key, Target.CREATE, "=", created), Compare(key, Target.MOD, "=", changed)]
            assert (await place.store.txn(exact, [])).succeeded
            assert not (await place.store.txn([*exact, Compare(key, Target.MOD, "<", changed)], [])).succeeded

    async def test_a_missing_key_is_zero_and_has_no_value(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"none"
            for target in (Target.VERSION, Target.CREATE, Target.MOD, Target.LEASE):
                assert (await place.store.txn([Compare(key, target, "=", 0)], [])).succeeded
            for op in COMPARISONS:
                assert not (await place.store.txn([Compare(key, Target.VALUE, op, b"")], [])).succeeded

    async def test_a_transaction_is_one_revision_and_one_batch(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            start = await place.store.put(p + b"old", b"0")
            result = await place.store.txn([], [Put(p + b"b", b"1"), Delete(p + b"old"), Put(p + b"a", b"2")])
            assert (result.revision, result.succeeded, result.lease) == (start + 1, True, None)
            assert list(result.responses) == [PutResult(), DeleteResult(1), PutResult()]
            async with place.store.watch(p, prefix_end(p), from_revision=start + 1) as batches:
                batch = await anext(batches)
            assert batch.revision == start + 1
            assert sorted(changes(batch)) == [(p + b"a", b"2"), (p + b"b", b"1"), (p + b"old", None)]

    async def test_a_range_in_a_transaction_sees_its_earlier_writes(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            start = await place.store.put(p + b"a", b"1")
            every = Range(p, prefix_end(p))
            ops: list[Op] = [every, Put(p + b"b", b"2"), every, Delete(p + b"a"), Range(p, prefix_end(p), 1)]
            responses = (await place.store.txn([], ops)).responses
            seen = [[kv.key for kv in found.kvs] for found in responses if isinstance(found, RangeResult)]
            assert seen == [[p + b"a"], [p + b"a", p + b"b"], [p + b"b"]]
            middle = responses[2]
            assert isinstance(middle, RangeResult)
            assert middle.kvs[1] == KV(p + b"b", b"2", start + 1, start + 1, 1, 0)

    async def test_the_other_branch_and_no_revision_without_writes(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            start = await place.store.put(key, b"1")
            absent = Compare(key, Target.VERSION, "=", 0)
            lost = await place.store.txn([absent], [Put(key, b"2")], [Range(key)])
            assert (lost.succeeded, lost.revision) == (False, start)
            (found,) = lost.responses
            assert isinstance(found, RangeResult)
            assert found.kvs[0].value == b"1"
            nothing = await place.store.txn([], [Delete(place.prefix + b"none")])
            assert (nothing.revision, list(nothing.responses)) == (start, [DeleteResult(0)])
            assert (await place.store.range(key)).revision == start

    async def test_one_of_many_wins_a_compare_and_swap(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"lock"
            absent = Compare(key, Target.CREATE, "=", 0)
            results = await asyncio.gather(
                *(place.store.txn([absent], [Put(key, b"%d" % n)], [Range(key)]) for n in range(20))
            )
            winners = [n for n, result in enumerate(results) if result.succeeded]
            assert len(winners) == 1
            assert (await place.store.range(key)).kvs[0].value == b"%d" % winners[0]

    async def test_a_refused_write_leaves_its_neighbours_alone(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p, gone = place.prefix, 123_456_789
            await place.store.put(p + b"keep", b"old")
            results = await asyncio.gather(
                place.store.put(p + b"a", b"1"),
                place.store.put(p + b"b", b"2", lease=gone),
                place.store.txn([], [Delete(p + b"keep"), Put(p + b"c", b"3"), Put(p + b"d", b"4", gone)]),
                place.store.lease_revoke(gone),
                place.store.put(p + b"e", b"5"),
                return_exceptions=True,
            )
            refused = [isinstance(result, LeaseNotFound) for result in results]
            assert refused == [False, True, True, True, False]
            found = await place.store.range(p, prefix_end(p))
            assert [kv.key for kv in found.kvs] == [p + b"a", p + b"e", p + b"keep"]

    # ---- watches

    async def test_a_watch_tells_history_then_the_present(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            first = await place.store.put(p + b"a", b"1")
            await place.store.put(p + b"a", b"2")
            await place.store.delete(p + b"a")
            async with place.store.watch(p, prefix_end(p), from_revision=first) as batches:
                past = await take(batches, 3)
                assert [batch.revision for batch in past] == [first, first + 1, first + 2]
                assert list(past[1].events) == [Event(KV(p + b"a", b"2", first, first + 1, 2, 0))]
                assert list(past[2].events) == [Event(KV(p + b"a", b"", 0, first + 2, 0, 0), True)]
                await place.store.put(p + b"b", b"3")
                assert changes(await anext(batches)) == [(p + b"b", b"3")]

    async def test_a_watch_resumes_where_it_left_off(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            first = await place.store.put(p + b"0", b"")
            for number in range(1, 10):
                await place.store.put(p + b"%d" % number, b"")
            seen: list[bytes] = []
            resume = first
            while len(seen) < 10:
                async with place.store.watch(p, prefix_end(p), from_revision=resume) as batches:
                    for batch in await take(batches, 2):
                        seen += [event.kv.key.removeprefix(p) for event in batch.events]
                        resume = batch.revision + 1
            assert seen == [b"%d" % number for number in range(10)]

    async def test_a_watch_has_only_its_range(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            start = await place.store.put(p + b"x", b"")
            async with (
                place.store.watch(p + b"b", from_revision=start + 1) as one,
                place.store.watch(p + b"b/", prefix_end(p + b"b/"), from_revision=start + 1) as below,
                place.store.watch(p + b"b", p + b"c", from_revision=start + 1) as between,
                place.store.watch(p + b"b", b"\0", from_revision=start + 1) as onwards,
            ):
                names = (b"a", b"b", b"b/1", b"c")
                await place.store.txn([], [Put(p + name, name) for name in names])
                await place.store.txn([], [Put(p + name, b"end") for name in names])

                async def first(batches: AsyncIterator[WatchBatch]) -> list[bytes]:
                    batch = await anext(batches)
                    return sorted(event.kv.value for event in batch.events)

                assert await first(one) == [b"b"]
                assert await first(below) == [b"b/1"]
                assert await first(between) == [b"b", b"b/1"]
                assert await first(onwards) == [b"b", b"b/1", b"c"]

    async def test_watches_from_the_past_miss_nothing_under_writes(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p, count = place.prefix, 300
            start = await place.store.put(p + b"start", b"")

            async def write(writer: int) -> None:
                for number in range(count // 3):
                    await place.store.put(p + b"%d" % (number % 7), b"%d/%d" % (writer, number))

            async def watch() -> list[int]:
                async with place.store.watch(p, prefix_end(p), from_revision=start) as batches:
                    return [batch.revision for batch in await take(batches, count + 1)]

            writers = [asyncio.create_task(write(number)) for number in range(3)]
            early = await asyncio.gather(*(watch() for _ in range(5)))
            await asyncio.gather(*writers)
            late = await watch()
            assert late == sorted(set(late))
            assert all(revisions == late for revisions in early)

    async def test_a_watch_right_after_a_read_is_never_refused(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            store, key = place.store, place.prefix + b"a"
            await store.put(key, b"")

            async def write() -> None:
                for _ in range(100):
                    await store.put(key, b"")

            async def follow() -> None:
                while not writing.done():
                    read = await store.range(key)
                    async with store.watch(key, from_revision=read.revision + 1) as batches:
                        if read.kvs[0].version < 101:
                            assert (await anext(batches)).events[0].kv.version == read.kvs[0].version + 1

            writing = asyncio.create_task(write())
            await asyncio.gather(writing, *(follow() for _ in range(5)))

    async def test_a_watch_beyond_the_next_revision_is_refused(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            revision = await place.store.put(place.prefix + b"a", b"")
            with pytest.raises(FutureRevision):
                async with place.store.watch(place.prefix + b"a", from_revision=revision + 1_000_000):
                    pass

    async def test_compaction_drops_history_and_keeps_the_state(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            key = place.prefix + b"a"
            revisions = [await place.store.put(key, b"%d" % number) for number in range(5)]
            await place.store.compact(revisions[3])
            with pytest.raises(Compacted) as refused:
                async with place.store.watch(key, from_revision=revisions[0]) as batches:
                    await anext(batches)
            assert refused.value.compact_revision == revisions[3]
            async with place.store.watch(key, from_revision=revisions[3]) as batches:
                assert [changes(batch) for batch in await take(batches, 2)] == [[(key, b"3")], [(key, b"4")]]
            assert (await place.store.range(key)).kvs[0].version == 5
            with pytest.raises(Compacted):
                await place.store.compact(revisions[3])
            with pytest.raises(FutureRevision):
                await place.store.compact(revisions[4] + 1_000_000)

    async def test_a_watch_ends_when_the_store_closes(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            p = place.prefix
            start = await place.store.put(p + b"a", b"1")

            async def watch() -> int:
                async with place.store.watch(p, prefix_end(p), from_revision=start) as batches:
                    count = 0
                    async for _ in batches:
                        count += 1
                        seen.set()
                    return count

            seen = asyncio.Event()
            task = asyncio.create_task(watch())
            await seen.wait()
            await place.store.close()
            assert await task == 1

    # ---- the store itself

    async def test_a_snapshot_is_a_new_file(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            revision = await place.store.put(place.prefix + b"a", b"1")
            target = tmp_path / "copy.snapshot"
            assert await place.store.snapshot(target) >= revision
            size = target.stat().st_size
            assert size > 0
            with pytest.raises(InvalidRequest):
                await place.store.snapshot(target)
            assert target.stat().st_size == size

    async def test_status_tells_revision_and_size(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            revision = await place.store.put(place.prefix + b"a", b"1")
            status = await place.store.status()
            assert status.revision >= revision
            assert status.size >= status.size_in_use > 0
            assert status.version
            assert not status.errors

    async def test_advancing_raises_the_revision_where_it_is_not_greater_already(
        self, tmp_path: Path
    ) -> None:
        async with self.place(tmp_path) as place:
            store, p = place.store, place.prefix
            await store.put(p + b"a", b"1")
            before = (await store.range(p, prefix_end(p))).revision
            await store.advance(before - 1)
            assert (await store.range(p, prefix_end(p))).revision == before
            await store.advance(before + 1000)
            found = await store.range(p, prefix_end(p))
            assert found.revision > before + 1000
            assert [(kv.key, kv.value, kv.version) for kv in found.kvs] == [(p + b"a", b"1", 1)]
            revision = await store.put(p + b"a", b"2")
            assert revision == found.revision + 1
            same = Compare(p + b"a", Target.MOD, "=", revision)
            assert (await store.txn([same], [Put(p + b"b", b"3")])).succeeded
            async with store.watch(
                p, prefix_end(p), from_revision=revision, history=(await store.range(p)).history
            ) as batches:
                assert [changes(batch) for batch in await take(batches, 2)] == [
                    [(p + b"a", b"2")],
                    [(p + b"b", b"3")],
                ]

    async def test_members_are_those_that_status_names(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            members = await place.store.members()
            status = await place.store.status()
            assert sorted(member.name for member in members) == sorted(status.members)
            assert [member.error for member in members] == [""] * len(members)
            assert [m.name for m in members if m.role == "leader"] == [status.leader] * bool(members)

    async def test_closing_twice_is_allowed(self, tmp_path: Path) -> None:
        async with self.place(tmp_path) as place:
            await place.store.close()
            await place.store.close()
