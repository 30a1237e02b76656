"""The event loop, turned and watched by tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Turns the loop until the condition holds, for at most 30 s."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # the code under test has no event to wait for
            await asyncio.sleep(0)


def watching(count: Callable[[], int], counts: list[int]) -> asyncio.Task[None]:
    """Notes the count whenever the loop has gone round, until it is cancelled."""

    async def watch() -> None:
        while True:
            counts.append(count())
            await asyncio.sleep(0)

    return asyncio.create_task(watch())
