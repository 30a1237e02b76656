"""How a call ends cleanly when it is cancelled: what must still be said is said, in bounded time.

Owns the two ways to run to an end under cancellation. It knows nothing of what is being ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`, which bounds its own time, to its end, and only then lets a cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at: the cancellation says more
        raise cancelled
    return task.result()


async def or_undone(
    work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]], seconds: float
) -> T:
    """What `work` returns. Cancelled, it waits at most `seconds` for that, undoes it in as much, and ends."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await to_the_end(_undo(task, undo, seconds))
        raise


async def _undo(task: asyncio.Future[T], undo: Callable[[T], Awaitable[object]], seconds: float) -> None:
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if task.cancelled() or task.exception() is not None:
        return  # it made nothing, or nobody can say
    try:
        async with asyncio.timeout(seconds):
            await undo(task.result())
    except Exception:
        return  # a lease ends by itself; the cancellation must go on
