"""What this node remembers of its own writes."""

from __future__ import annotations

import asyncio

from discovery.kv.contract import KV
from discovery.recent_writes import MAX_VALUE, REMEMBERED, RecentWrites, Written


def kv(size: int) -> KV:
    return KV(b"/skydns/a", b"x" * size, 1, 1, 1)


async def test_the_last_writes_are_kept_and_no_more() -> None:
    recent = RecentWrites()
    for revision in range(1, REMEMBERED + 3):
        recent.note(revision, Written("set"))
    assert [await recent.find(revision) for revision in (1, 2)] == [None, None]
    assert await recent.find(3) == await recent.find(REMEMBERED + 2) == Written("set")


async def test_a_large_value_that_was_replaced_is_not_kept() -> None:
    recent = RecentWrites()
    recent.note(1, Written("set", kv(MAX_VALUE)))
    recent.note(2, Written("set", kv(MAX_VALUE + 1)))
    assert await recent.find(1) == Written("set", kv(MAX_VALUE))
    assert await recent.find(2) == Written("set", None)


async def test_who_asks_waits_for_the_writes_on_their_way_and_for_no_later_ones() -> None:
    recent = RecentWrites()
    with recent.running():
        asking = asyncio.create_task(recent.find(7))
        await asyncio.sleep(0)
        later = recent.running()
        later.__enter__()
        recent.note(7, Written("create"))
        assert not asking.done()
    async with asyncio.timeout(5):
        assert await asking == Written("create")
    later.__exit__(None, None, None)


async def test_a_write_that_fails_holds_nobody_up() -> None:
    recent = RecentWrites()
    writing = recent.running()
    writing.__enter__()
    asking = asyncio.create_task(recent.find(7))
    await asyncio.sleep(0)
    assert not asking.done()
    assert not writing.__exit__(ValueError, ValueError("the disk is full"), None)
    async with asyncio.timeout(5):
        assert await asking is None
