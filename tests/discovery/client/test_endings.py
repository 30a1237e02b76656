"""Cancellation waits for what must be said, and for no more."""

from __future__ import annotations

import asyncio

import pytest

from discovery.client.endings import or_undone, to_the_end


async def cancelled(task: asyncio.Task[object]) -> None:
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_end_is_reached_though_it_is_cancelled() -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.append("said")

    task = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["said"]


async def test_what_was_made_is_undone() -> None:
    undone = []

    async def make() -> str:
        await asyncio.sleep(0.01)
        return "lease"

    async def undo(made: object) -> None:
        undone.append(made)

    await cancelled(asyncio.create_task(or_undone(make(), undo, 5)))
    assert undone == ["lease"]
    assert await or_undone(make(), undo, 5) == "lease"
    assert undone == ["lease"]


async def test_what_hangs_is_given_up() -> None:
    async def hang(*_: object) -> str:
        await asyncio.Event().wait()
        return ""

    async def make() -> str:
        await asyncio.sleep(0)
        return "lease"

    await cancelled(asyncio.create_task(or_undone(hang(), hang, 0.01)))
    await cancelled(asyncio.create_task(or_undone(make(), hang, 0.01)))


async def test_errors_come_through() -> None:
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await to_the_end(fail())
    with pytest.raises(OSError, match="no"):
        await or_undone(fail(), lambda _: fail(), 1)
